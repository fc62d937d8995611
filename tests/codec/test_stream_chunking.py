"""For any stream and any chunking: after each block the target has what the block's offset says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.codec.command_text import encode
from tests.codec.stream_blocks import (
    RECEIVED_MS,
    START,
    Command,
    apply,
    cut,
    make_plan,
    transcode,
)

texts = st.binary(max_size=12) | st.sampled_from(
    [b"", b"\r\n", b"EX", b"PX", b"*1\r\n$4\r\nPING\r\n"]
)
ordinary = st.lists(texts, max_size=14).map(lambda arguments: [b"HSET", b"k", *arguments])
special = st.sampled_from(
    [
        [b"FLUSHDB"],
        [b"PUBLISH", b"c", b"m"],
        [b"SET", b"k", b"v", b"EX", b"5"],
        [b"SET", b"EX", b"PX"],
    ]
) | st.builds(lambda seconds: [b"SETEX", b"k", b"%d" % seconds, b"v"], st.integers(1, 10**6))
selects = st.integers(0, 15).map(lambda db: [b"SELECT", b"%d" % db])
signs = st.sampled_from([[b"PING"], [b"REPLCONF", b"GETACK", b"*"], [b"\n"]])
writes = ordinary | special | selects
transactions = st.lists(writes, min_size=1, max_size=4).map(lambda it: [[b"MULTI"], *it, [b"EXEC"]])
units = st.lists((writes | signs).map(lambda it: [it]) | transactions, max_size=25)


def wire_of(command: Command) -> bytes:
    return b"\n" if command == [b"\n"] else encode(*command)


def in_seconds(text: bytes) -> bytes:
    return b"%d" % (RECEIVED_MS + 1000 * int(text))


def effects(commands: list[Command]) -> list[tuple[int, int, Command]]:
    """(offset behind it, database, command as the target gets it) of each that changes something."""
    db, offset, found = 0, START, []
    for command in commands:
        offset += len(wire_of(command))
        name, *arguments = command
        if name == b"SELECT":
            db = int(arguments[0])
        elif name == b"SETEX":
            key, seconds, value = arguments
            found.append((offset, db, [b"SET", key, value, b"PXAT", in_seconds(seconds)]))
        elif name == b"SET" and arguments[2:3] == [b"EX"]:
            found.append((offset, db, [name, *arguments[:2], b"PXAT", in_seconds(arguments[3])]))
        elif name not in {b"PING", b"REPLCONF", b"\n", b"MULTI", b"EXEC"}:
            found.append((offset, db, command))
    return found


def offsets_in_transactions(commands: list[Command]) -> set[int]:
    offset, is_inside, found = START, False, set()
    for command in commands:
        offset += len(wire_of(command))
        is_inside = command == [b"MULTI"] or (is_inside and command != [b"EXEC"])
        if is_inside:
            found.add(offset)
    return found


@given(
    units=units,
    places=st.lists(st.integers(0, 1 << 16), max_size=30),
    flush=st.lists(st.booleans(), max_size=30),
    block_bytes=st.sampled_from([1, 100, 128 * 1024]),
    is_at_least_once=st.booleans(),
)
def test_after_each_block_of_any_chunking_the_target_has_what_the_offset_says(
    units, places, flush, block_bytes, is_at_least_once
) -> None:
    commands = [command for unit in units for command in unit]
    stream = b"".join(map(wire_of, commands))

    transcoder, blocks = transcode(
        cut(stream, places),
        make_plan(is_transactional=not is_at_least_once, block_bytes=block_bytes),
        flush=flush,
    )

    expected, done = effects(commands), []
    inside = offsets_in_transactions(commands)
    for block in blocks:
        assert block.offset not in inside
        applied = apply(block)
        done += [it for it in applied.commands if it[1] not in ([b"MULTI"], [b"EXEC"])]
        assert done == [(db, command) for offset, db, command in expected if offset <= block.offset]
        if not is_at_least_once:
            assert applied.checkpoint[b"offset"] == b"%d" % block.offset
            assert applied.checkpoint[b"db"] == b"%d" % block.db
    assert len(done) == len(expected)
    assert transcoder.offset == START + len(stream)
    assert transcoder.bytes_waiting == 0


@given(
    units=units,
    places=st.lists(st.integers(0, 1 << 16), max_size=30),
    wanted=st.sets(st.integers(0, 60), max_size=10),
)
def test_a_block_ends_at_each_offset_that_is_asked_for(units, places, wanted) -> None:
    """So that a slot whose checkpoint is one of them has all of a block or nothing of it."""
    commands = [command for unit in units for command in unit]
    inside, offset, boundaries = offsets_in_transactions(commands), START, []
    for command in commands:
        offset += len(wire_of(command))
        if offset not in inside:
            boundaries.append(offset)
    cuts = {boundaries[n % len(boundaries)] for n in wanted} if boundaries else set()

    transcoder, blocks = transcode(
        cut(b"".join(map(wire_of, commands)), places),
        make_plan(is_transactional=False, block_bytes=128 * 1024),
        cuts=cuts,
    )

    expected, done, before = effects(commands), [], START
    for block in blocks:
        its = [it for it, _, _ in expected if before < it <= block.offset]
        assert not its or not any(its[0] <= it < block.offset for it in cuts)
        done += [it for it in apply(block).commands if it[1] not in ([b"MULTI"], [b"EXEC"])]
        assert done == [(db, command) for offset, db, command in expected if offset <= block.offset]
        before = block.offset
    assert len(done) == len(expected)
    assert transcoder.offset == offset
