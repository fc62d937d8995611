"""A snapshot that is damaged on its way is asked for again; one that is so every time ends the task by its key."""

from __future__ import annotations

import asyncio

import pytest

from engine.errors import CorruptRdb
from engine.settings import ResumeMode
from tests.corpus_files import RecordedStream
from tests.fix_servers import StartServer
from tests.live.recorded_state import described, differences, read_state
from tests.live.running_task import make_settings, migrate, running
from tests.oracle.rdb_reference import read_rdb
from tests.servers.scripted_source import ScriptedSource, _Conversation

pytestmark = pytest.mark.live

SERVER = "redis-7.2.6"
UNDEFINED_ENCODING = 0xC5


def damaged(source: ScriptedSource) -> tuple[bytes, bytes]:
    """The wire with a broken string inside a list, and that list's key."""
    expected = source.expected
    start, size = expected["rdb_start"], expected["rdb_len"]
    records, _ = read_rdb(source.wire[start : start + size])
    # A list of one packed node: LEN nodes, LEN container, STR.
    record = next(it for it in records if it.value_type == 18 and it.value[:2] == b"\x01\x02")
    wire = bytearray(source.wire)
    wire[start + record.start + 2] = UNDEFINED_ENCODING
    return bytes(wire), record.key


def damage_first(monkeypatch: pytest.MonkeyPatch, source: ScriptedSource, times: int) -> bytes:
    """The source sends a damaged snapshot so many times. Returns the key that is broken."""
    broken, key = damaged(source)
    whole, left = source.wire, [times]
    play = _Conversation._play_from

    async def play_damaged(self: _Conversation, start: int) -> None:
        is_snapshot = start < source.expected["stream_start"]
        source.wire = broken if is_snapshot and left[0] > 0 else whole
        left[0] -= is_snapshot
        await play(self, start)

    monkeypatch.setattr(_Conversation, "_play_from", play_damaged)
    return key


async def test_a_snapshot_damaged_on_its_way_is_asked_for_again(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = start_server("redis-8.2")
    source = ScriptedSource(RecordedStream(SERVER), seed=1)
    damage_first(monkeypatch, source, 2)

    async with source.playing(), running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(source.offset_at_end)
        await run.stop()

    status = run.task.status()
    assert status.retries == {"CorruptRdb": 2}
    assert status.full_resyncs == 3
    found = await asyncio.to_thread(read_state, target.client, field_ttls=True)
    assert differences(described(source.expected["dbs"]), found) == []


async def test_one_that_is_damaged_every_time_stops_the_task_and_names_the_key(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ScriptedSource(RecordedStream(SERVER), seed=1)
    key = damage_first(monkeypatch, source, 100)

    async with source.playing():
        with pytest.raises(CorruptRdb) as caught:
            await migrate(make_settings(source.endpoint, start_server("redis-8.2").endpoint))

    assert repr(key) in str(caught.value)
    assert sum(it.startswith("PSYNC") for it in source.asked) == 3


async def test_in_manual_mode_the_first_one_stops_it(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ScriptedSource(RecordedStream(SERVER), seed=1)
    damage_first(monkeypatch, source, 100)
    target = start_server("redis-8.2")

    async with source.playing():
        settings = make_settings(source.endpoint, target.endpoint, resume_mode=ResumeMode.MANUAL)
        with pytest.raises(CorruptRdb):
            await migrate(settings)

    assert sum(it.startswith("PSYNC") for it in source.asked) == 1
