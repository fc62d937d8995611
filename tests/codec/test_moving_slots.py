"""What says in a stream or a snapshot that slots of the source are moving: neither goes on."""

from __future__ import annotations

from typing import Any

import pytest

from engine.codec.foreign_stream import ForeignStreamTranscoder
from engine.codec.snapshot import SnapshotTranscoder
from engine.codec.stream import StreamTranscoder
from engine.codec.stream_selector import StreamSelector
from engine.errors import SourceRefused
from engine.selection import Selection
from tests.codec.interpreted_form import interpreted
from tests.codec.snapshot_commands import PLAN, outputs, plan_like
from tests.codec.stream_blocks import RECEIVED_MS, START, make_plan, wire
from tests.codec.test_command_bridge import support_of
from tests.corpus_files import all_open_dumps

IMPORT = next(it for it in all_open_dumps() if "slotimport" in it.id)
TELLS = [
    ("CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE", "a" * 40, "SLOTSRANGE", 0, 100),
    ("cluster", "syncslots", "CONF", "ASM-TASK", "id:…"),
    ("TRIMSLOTS", "RANGES", 1, 0, 100),
]
SELECTIONS = [
    None,
    Selection(include_keys=(b"a*",), prefix_add=b"p:"),
    Selection(databases=frozenset({0}), db_map=((0, 1),)),
    Selection(databases=frozenset({7})),
]
FORMS: list[Any] = [StreamTranscoder, interpreted("stream").StreamTranscoder]


@pytest.mark.parametrize("selection", SELECTIONS, ids=["all", "keys", "mapped", "left out"])
@pytest.mark.parametrize("command", TELLS, ids=lambda it: it[0])
@pytest.mark.parametrize("form", FORMS, ids=["compiled", "interpreted"])
def test_the_stream_stops_at_the_command(
    form: Any, command: tuple[Any, ...], selection: Selection | None
) -> None:
    before, data = wire(("SET", "a", "1")), wire(command)
    chunk = before + data
    if selection is not None:
        chunk = StreamSelector(selection, START, 0, False).select(chunk)
    transcoder = form(make_plan(takes_marks=selection is not None))
    transcoder.feed(chunk, RECEIVED_MS, False)
    at = f"at offset {START + len(before) + len(data)} of a shard's stream"
    with pytest.raises(SourceRefused, match="slots of the source are moving") as caught:
        transcoder.next_block(True)
    assert at in str(caught.value)


@pytest.mark.parametrize("command", TELLS, ids=lambda it: it[0])
def test_also_for_a_target_that_knows_no_such_command_and_where_such_are_left_out(
    command: tuple[Any, ...],
) -> None:
    plan = make_plan(support=support_of(), skips_refused=True)
    transcoder = ForeignStreamTranscoder(plan)
    transcoder.feed(wire(command), RECEIVED_MS, False)
    with pytest.raises(SourceRefused, match="slots of the source are moving"):
        transcoder.next_block(True)


def test_a_servers_snapshot_made_while_it_takes_slots_over_is_refused() -> None:
    transcoder = SnapshotTranscoder(plan_like(is_live=True))
    with pytest.raises(SourceRefused, match="the snapshot of a shard was made while it took"):
        list(outputs(transcoder, [IMPORT.rdb]))
    assert not transcoder.keys_expected  # before the first key


def test_of_a_file_it_is_counted() -> None:
    transcoder = SnapshotTranscoder(PLAN)
    list(outputs(transcoder, [IMPORT.rdb]))
    assert transcoder.not_carried == {"keys of slots being imported": 1}


@pytest.mark.parametrize("is_live", [False, True])
def test_as_redis_writes_it(is_live: bool) -> None:
    def text(it: bytes) -> bytes:
        return bytes([len(it)]) + it

    task = text(b"cluster-asm-task") + text(b"id:src:dest:import:wait:0-100")
    rdb = b"REDIS0013\xfa" + task + b"\xfe\x00\x00\x01k\x01v\xff" + bytes(8)
    transcoder = SnapshotTranscoder(plan_like(is_live=is_live))
    if is_live:
        with pytest.raises(SourceRefused, match="slots of the source are moving"):
            list(outputs(transcoder, [rdb]))
    else:
        list(outputs(transcoder, [rdb]))
        assert transcoder.not_carried == {"keys of slots being imported": 1}


@pytest.mark.parametrize("form", FORMS, ids=["compiled", "interpreted"])
def test_a_slot_that_was_emptied_at_once_ends_the_stream_there(form: Any) -> None:
    """Valkey 9 passes CLUSTER FLUSHSLOT on as it is; no DEL tells of the keys."""
    transcoder = form(make_plan())
    transcoder.feed(
        wire(("SET", "a", "1")) + wire(("CLUSTER", "flushslot", 77, "SYNC")), RECEIVED_MS, False
    )
    with pytest.raises(SourceRefused, match="all keys of slot 77") as caught:
        transcoder.next_block(True)
    assert "tasks forget" in str(caught.value)
