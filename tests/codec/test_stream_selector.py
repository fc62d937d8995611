"""A selected stream through the transcoder: for any chunking the target has what each block's offset says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.command_support import CannotBridge
from engine.codec.key_filter import KeyFilter
from engine.codec.selected_commands import SelectedCommands
from engine.codec.stream import StreamTranscoder
from engine.codec.stream_selector import StreamSelector
from engine.errors import UnsupportedByTarget
from engine.selection import Selection
from tests.codec.interpreted_form import interpreted_imports
from tests.codec.stream_blocks import RECEIVED_MS, START, Command, apply, cut, make_plan, wire

with interpreted_imports():
    from engine.codec.stream_selector import StreamSelector as InterpretedSelector

SELECTIONS = [
    Selection(include_keys=(b"a*",)),
    Selection(exclude_keys=(b"x*",), prefix_add=b"a-long-prefix:"),
    Selection(include_keys=(b"app*",), prefix_strip=b"app"),
    Selection(include_keys=(b"app*",), prefix_strip=b"app", prefix_add=b"n:"),
    Selection(databases=frozenset({0, 2})),
    Selection(databases=frozenset({0, 2}), db_map=((0, 7), (2, 0)), include_keys=(b"a*",)),
    Selection(exclude_commands=frozenset({"LPUSH", "FUNCTION", "DEL"})),
    Selection(db_map=((0, 1), (1, 0)), exclude_keys=(b"a",)),
]

keys = st.sampled_from([b"a", b"app", b"app1", b"x", b"y1", b""])
values = st.binary(max_size=30) | st.sampled_from([b"\x01\x00", b"\r\n", b"*1\r\n$4\r\nPING\r\n"])
writes = st.one_of(
    st.builds(lambda key, value: [b"SET", key, value], keys, values),
    st.builds(lambda key, some: [b"LPUSH", key, *some], keys, st.lists(values, max_size=14)),
    st.lists(keys, min_size=1, max_size=15).map(lambda some: [b"DEL", *some]),
    st.lists(keys, min_size=1, max_size=8).map(
        lambda some: [b"MSET", *(it for key in some for it in (key, b"1"))]
    ),
    st.builds(lambda one, other: [b"SMOVE", one, other, b"m"], keys, keys),
    st.builds(lambda one, other: [b"RENAME", one, other], keys, keys),
    st.sampled_from([[b"PUBLISH", b"c", b"m"], [b"FUNCTION", b"LOAD", b"x"], [b"FLUSHDB"]]),
    st.builds(lambda db, key: [b"MOVE", key, b"%d" % db], st.integers(0, 3), keys),
)
selects = st.integers(0, 3).map(lambda db: [b"SELECT", b"%d" % db])
signs = st.sampled_from([[b"PING"], [b"REPLCONF", b"GETACK", b"*"], [b"\n"]])
transactions = st.lists(writes | selects, max_size=4).map(lambda it: [[b"MULTI"], *it, [b"EXEC"]])
units = st.lists((writes | selects | signs).map(lambda it: [it]) | transactions, max_size=30)


def wire_of(command: Command) -> bytes:
    return b"\n" if command == [b"\n"] else wire(command)


def expectation(
    commands: Iterable[Command], selection: Selection
) -> tuple[list[tuple[int, int, Command]], dict[int, int], set[int], int]:
    """What reaches the target: (offset behind it, database, command); databases at the source by offset; offsets in transactions; refusals."""
    chosen = SelectedCommands(selection, KeyFilter(selection.include_keys, selection.exclude_keys))
    db, offset, found, refused = 0, START, [], 0
    dbs, inside, is_inside = {START: 0}, set(), False
    for command in commands:
        offset += len(wire_of(command))
        name = command[0]
        if name == b"SELECT":
            db = int(command[1])
        is_inside = name == b"MULTI" or (is_inside and name != b"EXEC")
        if is_inside:
            inside.add(offset)
        dbs[offset] = db
        if name in {b"SELECT", b"MULTI", b"EXEC", b"PING", b"REPLCONF", b"\n"}:
            continue
        target = selection.target_db(db)
        if name.decode() in selection.exclude_commands or (name == b"FLUSHDB" and target is None):
            continue
        try:
            written = chosen.decide(command, db)
        except CannotBridge:
            refused += 1
            continue
        if written is not None:
            # What has no key may run in any database.
            shown = -1 if name in {b"PUBLISH", b"FUNCTION"} else target
            found.append((offset, shown, written))
    return found, dbs, inside, refused


@given(
    units=units,
    selection=st.sampled_from(SELECTIONS),
    places=st.lists(st.integers(0, 1 << 16), max_size=30),
    flush=st.lists(st.booleans(), min_size=1, max_size=30),
    block_bytes=st.sampled_from([1, 100, 128 * 1024]),
)
def test_after_each_block_the_target_has_what_the_offset_says(
    units, selection, places, flush, block_bytes
) -> None:
    commands = [command for unit in units for command in unit]
    chunks = cut(b"".join(map(wire_of, commands)), places)
    expected, dbs, inside, refused = expectation(commands, selection)
    selector = StreamSelector(selection, START, 0, True)
    interpreted: Any = InterpretedSelector(selection, START, 0, True)
    transcoder = StreamTranscoder(make_plan(takes_marks=True, block_bytes=block_bytes))
    blocks, done, offset = [], [], START
    for number, chunk in enumerate(chunks):
        offset += len(chunk)
        selected = selector.select(chunk)
        assert selected == interpreted.select(chunk)
        transcoder.feed(selected, RECEIVED_MS, False)
        while block := transcoder.next_block(flush[number % len(flush)]):
            blocks.append(block)
        assert transcoder.bytes_waiting == 0
        assert transcoder.offset <= offset
        assert transcoder.offset in dbs
    while block := transcoder.next_block(True):
        blocks.append(block)
    for block in blocks:
        assert block.offset in dbs
        assert block.offset not in inside
        applied = apply(block)
        done += applied.commands
        wanted = [it for it in expected if it[0] <= block.offset]
        assert [command for _, command in done] == [command for _, _, command in wanted]
        for (db, _), (_, shown, _) in zip(done, wanted, strict=True):
            assert shown in {-1, db}
        assert applied.checkpoint[b"offset"] == b"%d" % block.offset
        assert applied.checkpoint[b"db"] == b"%d" % dbs[block.offset]
    assert len(done) == len(expected)
    assert transcoder.offset == START + len(b"".join(chunks))
    assert transcoder.source_db == dbs[transcoder.offset]
    assert len(selector.refused) == refused
    counted = [it for it in commands if it[0] not in {b"SELECT", b"MULTI", b"EXEC", b"PING", b"REPLCONF", b"\n"}]  # fmt: skip
    assert selector.left_out == len(counted) - len(expected) - refused


def test_a_command_that_cannot_be_divided_stops_behind_what_was_before_it() -> None:
    selector = StreamSelector(Selection(include_keys=(b"a*",)), START, 3, False)
    before = wire(("SET", "a", 1), ("SET", "x", 1), ("SET", "a", 2))
    out = selector.select(before + wire(("RENAME", "x", "a"), ("SET", "a", 3)))
    transcoder = StreamTranscoder(make_plan(takes_marks=True, db=3))
    transcoder.feed(out, RECEIVED_MS, False)
    block = transcoder.next_block(True)
    assert block is not None
    assert apply(block).commands == [(3, [b"SET", b"a", b"1"]), (3, [b"SET", b"a", b"2"])]
    assert transcoder.offset == START + len(before)
    assert isinstance(selector.failure, UnsupportedByTarget)
    for part in ("RENAME", "b'x'", "database 3", "--exclude-command"):
        assert part in str(selector.failure)
    assert selector.select(wire(("SET", "a", 4))) == b""


def test_a_refused_command_is_told_and_left_out_where_the_task_says_so() -> None:
    selector = StreamSelector(Selection(include_keys=(b"a*",)), START, 0, True)
    selector.select(wire(("SELECT", 2), ("EVAL", "return 1", 0), ("SET", "a", 3)))
    ((db, key, name, why),) = selector.refused
    assert (db, key, name) == (2, b"return 1", "EVAL")
    assert "script" in why
    assert selector.left_out == 0


def test_without_marks_the_byte_of_a_mark_is_out_of_step() -> None:
    from engine.errors import StreamOutOfStep

    transcoder = StreamTranscoder(make_plan())
    transcoder.feed(b"\x01" * 100, RECEIVED_MS, False)
    with pytest.raises(StreamOutOfStep):
        transcoder.next_block(True)
