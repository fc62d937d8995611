"""Every recorded replication stream, 2.4 to 8.6, played to the engine, ends in its recorded state."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from engine.demo.servers import RunningServer
from engine.errors import SourceAuthError, TargetRejected
from engine.supervision.states import TaskState
from tests.codec.stream_blocks import Command, parse
from tests.corpus_files import RecordedStream, streams
from tests.fix_servers import StartServer
from tests.live.recorded_state import State, described, differences, read_state
from tests.live.running_task import make_settings, migrate, running
from tests.servers.scripted_source import ScriptedSource

pytestmark = pytest.mark.live

REDIS, VALKEY = "redis-8.2", "valkey-9.1"
# Commands of the stream that newer servers refuse, with the key. Before 3.2 an empty string was the number 0.
REFUSED = {
    "redis-2.6.17": ("DECRBY", b"n:\x00\xffbin40"),
    "redis-3.0.7": ("INCR", b"n:k5"),
}
# What the source did and did not tell its replicas, so that a replica of its own version differs as well.
UNTOLD = {
    # 2.4 pops for a blocked client unseen.
    "redis-2.4.18": {b"bl:1", b"bl:2", b"bl:3", b"bl:5", b"bl:6"},
    # KeyDB's MOVE deletes the key even where the other database has one of that name.
    "keydb-5.3.3": {b"s:\x00\xffbin17"},
    "keydb-6.2.2": {b"s:k18"},
}
PLAYABLE = [it for it in streams() if it.server not in REFUSED]
RESUMABLE = ["redis-2.8.24", "redis-4.0.14", "redis-7.2.6", "valkey-9.1.2", "keydb-6.2.2"]
ABSOLUTE_TIMES_SINCE = (7, 0)


def by_name(recordings: Iterable[RecordedStream]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("recording", recordings, ids=lambda it: it.server)


def target_of(recording: RecordedStream) -> str:
    """The newest server that knows the source's types: hash field TTLs differ between the families."""
    return VALKEY if recording.server.startswith("valkey") else REDIS


def state_of(server: RunningServer) -> State:
    return read_state(server.client, field_ttls=True)


def check_expiries(source: ScriptedSource, found: State, began_ms: int, ended_ms: int) -> None:
    """Exact where the source sends moments; else each must be a TTL of the stream from now on."""
    has_moments = source.version >= ABSOLUTE_TIMES_SINCE or source.version[:2] == (6, 9)
    durations = set() if has_moments else relative_durations(source)
    # Recorded by PEXPIRETIME, by PTTL, or by TTL.
    tolerance_ms = 0 if has_moments else 5 if source.version >= (2, 6) else 1000
    wrong, from_now = [], 0
    for place, expected in described(source.expected["dbs"]).items():
        at, wanted = found.get(place, expected)["expire_at_ms"], expected["expire_at_ms"]
        if at == wanted or (at and wanted and abs(at - wanted) <= tolerance_ms):
            continue
        if None not in (at, wanted) and any(
            began_ms <= at - duration <= ended_ms for duration in durations
        ):
            from_now += 1
        else:
            wrong.append((place, wanted, at))
    assert wrong == []
    assert (from_now == 0) == has_moments


def relative_durations(source: ScriptedSource) -> set[int]:
    """Every TTL of the stream that is relative, in ms."""
    found = set()
    for command, *arguments in commands_of(source):
        name = command.upper()
        if name in {b"SETEX", b"EXPIRE"}:
            found.add(int(arguments[1]) * 1000)
        elif name in {b"PSETEX", b"PEXPIRE", b"RESTORE"}:
            found.add(int(arguments[1]))
        elif name == b"SET" and len(arguments) > 3:
            options = [it.upper() for it in arguments]
            for option, factor in ((b"EX", 1000), (b"PX", 1)):
                if option in options[2:]:
                    found.add(int(arguments[options.index(option, 2) + 1]) * factor)
    return found


def commands_of(source: ScriptedSource) -> list[Command]:
    data = source.wire[source.expected["stream_start"] :]
    lines = data.split(b"\r\n")
    inline = [it for it in lines if it[:7].lower() == b"select "]  # before 2.8
    for line in inline:
        data = data.replace(line + b"\r\n", b"", 1)
    return parse(data)


@by_name(PLAYABLE)
async def test_the_target_ends_in_the_recorded_state(
    recording: RecordedStream, start_server: StartServer
) -> None:
    target = start_server(target_of(recording))
    source = ScriptedSource(recording, seed=random.getrandbits(32))
    began_ms = int(time.time() * 1000)

    async with source.playing(), running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(source.offset_at_end)
        await run.stop()
    ended_ms = int(time.time() * 1000) + 1

    found = await asyncio.to_thread(state_of, target)
    untold = UNTOLD.get(recording.server, set())
    assert differences(described(source.expected["dbs"]), found, but=untold) == []
    check_expiries(source, found, began_ms, ended_ms)
    status = run.task.status()
    assert (status.full_resyncs, status.partial_resyncs, status.errors) == (1, 0, 0)
    assert status.applied_offset == source.offset_at_end
    assert source.acknowledged_offset == (source.offset_at_end if source.has_psync else -1)
    assert run.states[-2:] == [TaskState.STOPPING, TaskState.STOPPED]


@by_name([it for it in PLAYABLE if it.server in RESUMABLE])
async def test_a_run_stopped_anywhere_in_the_stream_goes_on_there(
    recording: RecordedStream, start_server: StartServer
) -> None:
    target = start_server(target_of(recording))
    source = ScriptedSource(recording, seed=random.getrandbits(32))
    first, last = source.expected["offset_at_stream_start"], source.offset_at_end
    began_ms = int(time.time() * 1000)

    partial_resyncs = 0
    async with source.playing():
        for offset in (*sorted(random.sample(range(first + 1, last), 3)), last):
            async with running(make_settings(source.endpoint, target.endpoint)) as run:
                await run.reaches_offset(offset)
                await run.stop()
            partial_resyncs += run.task.status().partial_resyncs
    ended_ms = int(time.time() * 1000) + 1

    found = await asyncio.to_thread(state_of, target)
    untold = UNTOLD.get(recording.server, set())
    assert differences(described(source.expected["dbs"]), found, but=untold) == []
    check_expiries(source, found, began_ms, ended_ms)
    assert partial_resyncs == 3


async def test_a_command_that_the_target_refuses_is_named_and_not_sent_again(
    start_server: StartServer,
) -> None:
    target = start_server(REDIS)
    source = ScriptedSource(RecordedStream("redis-3.0.7"), seed=1)
    command, key = REFUSED["redis-3.0.7"]

    refusals = []
    async with source.playing():
        while True:
            async with running(make_settings(source.endpoint, target.endpoint)) as run:
                try:
                    await run.reaches_offset(source.offset_at_end)
                    break
                except TargetRejected as error:
                    refusals.append(error)

    # Two such commands, in one block or in two.
    assert {(it.command, it.key) for it in refusals} == {(command, key)}
    assert len({it.offset for it in refusals}) == len(refusals) <= 2
    assert run.task.status().partial_resyncs == 1
    assert differences(described(source.expected["dbs"]), state_of(target), but={key}) == []


async def test_a_refusal_ends_the_run_with_a_source_that_cannot_resume(
    start_server: StartServer,
) -> None:
    source = ScriptedSource(RecordedStream("redis-2.6.17"), seed=1)

    async with source.playing():
        with pytest.raises(TargetRejected) as caught:
            await migrate(make_settings(source.endpoint, start_server(REDIS).endpoint))

    assert (caught.value.command, caught.value.key) == REFUSED["redis-2.6.17"]


@pytest.mark.parametrize("name", ["redis-2.4.18", "redis-5.0.14", "redis-7.2.6"])
async def test_a_source_of_any_age_is_logged_in_to(name: str, start_server: StartServer) -> None:
    source = ScriptedSource(RecordedStream(name), seed=1, password="s3cret")
    target = start_server(REDIS)

    async with source.playing(), running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(source.offset_at_end)

    assert "AUTH s3cret" in source.asked


@pytest.mark.parametrize("name", ["redis-2.4.18", "redis-5.0.14", "redis-7.2.6"])
async def test_a_source_of_any_age_that_wants_a_password_says_so(
    name: str, start_server: StartServer
) -> None:
    source = ScriptedSource(RecordedStream(name), seed=1, password="s3cret")
    target = start_server(REDIS).endpoint

    async with source.playing():
        for password in (None, "wrong"):
            endpoint = replace(source.endpoint, password=password)
            with pytest.raises(SourceAuthError):
                await migrate(make_settings(endpoint, target))


async def test_a_source_that_permits_no_info_is_migrated_on_less_knowledge(
    start_server: StartServer,
) -> None:
    source = ScriptedSource(RecordedStream("redis-7.2.6"), seed=1, info_is_permitted=False)
    target = start_server(REDIS)

    async with source.playing(), running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(source.offset_at_end)

    assert differences(described(source.expected["dbs"]), state_of(target)) == []
