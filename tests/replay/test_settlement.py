"""The source is asked for the true expiries: what it answers, what follows from it on the target, when it will not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.codec.bridge import ValueBridge
from engine.codec.command_text import encode
from engine.demo.servers import RunningServer
from engine.demo.wire import Wire, pack
from engine.endpoint import Endpoint
from engine.errors import SourceNotReady
from engine.replay.margin import DAY_MS, MARGIN_MS
from engine.replay.owed import FILE_NAME, OwedFile
from engine.replay.settlement import Settlement
from engine.settings import SourceSettings, SpoolSettings
from engine.supervision.states import TaskState
from engine.target.capabilities import probe_target
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import compared, has_field_ttls, offset_of
from tests.live.world import SOURCE_CONFIG, events

pytestmark = pytest.mark.live

MINUTE_MS = 60_000
KEYS = 4000
SERVERS = ["redis-6.2", "redis-8.2", "valkey-9.1"]
PAIRS = [("redis-6.2", "redis-8.2"), ("redis-8.2", "redis-8.2"), ("valkey-9.1", "valkey-9.1")]
each_server = pytest.mark.parametrize("name", SERVERS)
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=["-to-".join(it) for it in PAIRS])
TELLS_MOMENTS_SINCE = (7, 0, 0)
USER = "ferry"
ALL_BUT_DUMP = f"ACL SETUSER {USER} on >secret ~* &* +@all -dump"


@asynccontextmanager
async def settlement(
    source: RunningServer,
    *,
    endpoint: Endpoint | None = None,
    removes_missing: bool = True,
    replid: str = "",
) -> AsyncIterator[Settlement]:
    capabilities = await probe_target(
        source.endpoint, make_settings(source.endpoint, source.endpoint).target_link
    )
    made = Settlement(
        endpoint or source.endpoint,
        SourceSettings(connect_timeout_seconds=2),
        tells_moments=source.binary.version_numbers >= TELLS_MOMENTS_SINCE,
        removes_missing=removes_missing,
        replid=lambda: replid,
        target_rdb_version=capabilities.rdb_version,
        values=ValueBridge(capabilities.redis_types, capabilities.valkey_types, False),
        takes_key_metadata=capabilities.key_metadata,
    )
    try:
        yield made
    finally:
        await made.close()


def expiry_ms(server: RunningServer, key: str, db: int = 0) -> int:
    """The moment, to some ms where the server tells none; -1 without one, -2 without the key."""
    with server.client(db) as client:
        left = int(client.pttl(key))
        seconds, microseconds = client.time()
    return left if left < 0 else int(seconds) * 1000 + int(microseconds) // 1000 + left


@each_server
async def test_the_answer_makes_the_target_what_the_source_is_at_its_offset(
    name: str, start_server: StartServer
) -> None:
    source = start_server(name, config=SOURCE_CONFIG)
    target = start_server(name)
    late_ms = expiry_ms(source, "absent") + MARGIN_MS
    with Wire(source.endpoint, db=2) as wire:
        wire.ask("SET", "timed", "1", "PX", 10 * MINUTE_MS)
        wire.ask("SET", "lasting", "1")
        wire.ask("RPUSH", "whole", "a", "b")
        wire.ask("PEXPIRE", "whole", 20 * MINUTE_MS)
        wire.ask("HSET", "lasting-whole", "f", 1)
    with Wire(target.endpoint, db=2) as wire:
        for key in ("timed", "lasting", "gone", "whole", "gone-whole"):
            wire.ask("SET", key, "1")
        for key in ("timed", "gone", "whole", "gone-whole"):
            wire.ask("PEXPIRE", key, late_ms)

    async with settlement(source) as asked:
        assert await asked.check()
        correction = await asked.ask(
            [(2, b"timed"), (2, b"lasting"), (2, b"gone")],
            [(2, b"whole"), (2, b"lasting-whole"), (2, b"gone-whole")],
        )
    assert correction is not None
    assert correction.offset == offset_of(source)
    with Wire(target.endpoint) as wire:
        wire.send(b"".join(correction.commands) + encode("SET", "in-database-0", "1"))
        assert not [
            it for it in wire.replies(len(correction.commands) + 1) if isinstance(it, Exception)
        ]
    with target.client() as client:
        assert client.delete("in-database-0") == 1
    found = await compared(source, target)
    assert found.is_equal, str(found)


@each_server
async def test_what_is_missing_stays_where_it_is_not_to_be_removed(
    name: str, start_server: StartServer
) -> None:
    source = start_server(name)
    async with settlement(source) as asked:
        correction = await asked.ask([(0, b"gone")], [(1, b"gone")], removes_missing=False)
    assert correction is not None
    assert correction.commands == [encode("SELECT", 0)]


@each_server
async def test_a_source_that_refuses_is_named_with_what_to_grant(
    name: str, start_server: StartServer
) -> None:
    source = start_server(name)
    with source.client() as client:
        client.execute_command(*ALL_BUT_DUMP.split())
    endpoint = replace(source.endpoint, username=USER, password="secret")
    async with settlement(source, endpoint=endpoint) as asked:
        with capture_logs() as logs:
            assert not await asked.check()
        (warning,) = events(list(logs), "expiry.cannot_be_settled")
        assert "dump" in warning["why"].lower()
        assert "+dump" in warning["remedy"]
        assert await asked.ask([], [(0, b"any")]) is None


@each_server
async def test_a_source_that_is_away_is_asked_again_later(
    name: str, start_server: StartServer
) -> None:
    source = start_server(name)
    async with settlement(source) as asked:
        assert await asked.ask([(0, b"a")], []) is not None
        source.kill()
        with pytest.raises(SourceNotReady):
            await asked.ask([(0, b"a")], [])
        await asyncio.to_thread(source.start)
        assert await asked.ask([(0, b"a")], []) is not None


def fill_with_expiries(source: RunningServer) -> None:
    """Short lives in two databases; where there are such, field TTLs too."""
    for db in (0, 5):
        with Wire(source.endpoint, db=db) as wire:
            commands = [
                pack((b"SET", b"timed:%d" % n, b"1", b"PX", (10 + n % 50) * MINUTE_MS))
                for n in range(KEYS)
            ]
            if has_field_ttls(source):
                for n in range(50):
                    commands += [
                        pack((b"HSET", b"h:%d" % n, b"a", b"1", b"b", b"2")),
                        pack((b"HPEXPIRE", b"h:%d" % n, 10 * MINUTE_MS + n, b"FIELDS", 1, b"a")),
                    ]
            wire.send(b"".join(commands))
            assert not [it for it in wire.replies(len(commands)) if isinstance(it, Exception)]


async def keeps_moving(source: RunningServer, stop: asyncio.Event) -> int:
    """Carry keys from name to name and from database to database; how many moves there were."""

    def move(number: int) -> None:
        with Wire(source.endpoint, db=5) as wire:
            for n in range(number, number + 20):
                key = b"timed:%d" % (n * 97 % KEYS)
                wire.ask("COPY", key, b"copy:%d" % (n % 200), "REPLACE")
                wire.ask("RENAME", key, b"moved:%d" % (n % 300))
                wire.ask("RENAME", b"moved:%d" % (n % 300), key)
                wire.ask("RENAME", key, b"away:%d" % n)
                wire.ask("RENAME", b"away:%d" % n, key)
            wire.ask("COPY", "h:7", "h:copy", "REPLACE") if has_field_ttls(source) else None
            wire.ask("SWAPDB", 5, 7)
            wire.ask("SWAPDB", 7, 5)
            wire.ask("SWAPDB", 0, 5)

    moves = 0
    while not stop.is_set():
        await asyncio.to_thread(move, moves)
        moves += 20
    return moves


@each_pair
async def test_while_keys_are_renamed_copied_and_swapped_each_gets_its_true_time(
    pair: tuple[str, str], start_server: StartServer
) -> None:
    source = start_server(pair[0], config=SOURCE_CONFIG)
    target = start_server(pair[1])
    fill_with_expiries(source)
    stop = asyncio.Event()
    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        moving = asyncio.create_task(keeps_moving(source, stop))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await run.reaches(lambda: run.task.status().commands_applied > 500, "moves are applied")
        stop.set()
        assert await moving >= 20
        await run.reaches_offset(offset_of(source))
    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert found.keys_target > KEYS
    assert run.task.status().full_resyncs == 1


@each_pair
async def test_without_the_permission_no_expiry_is_put_off(
    pair: tuple[str, str], start_server: StartServer
) -> None:
    source = start_server(pair[0], config=SOURCE_CONFIG)
    target = start_server(pair[1])
    with source.client() as client:
        client.execute_command(*ALL_BUT_DUMP.split())
        client.set("timed", "1", px=10 * MINUTE_MS)
    endpoint = replace(source.endpoint, username=USER, password="secret")
    with capture_logs() as logs:
        async with running(make_settings(endpoint, target.endpoint)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            assert not run.task.status().expiries_owed
            assert abs(expiry_ms(target, "timed") - expiry_ms(source, "timed")) < 1000
            await run.reaches_offset(offset_of(source))
    assert events(list(logs), "expiry.cannot_be_settled")
    found = await compared(source, target)
    assert found.is_equal, str(found)


@each_pair
async def test_what_a_run_that_died_has_noted_is_put_right_by_the_next_one(
    pair: tuple[str, str], start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(pair[0], config=SOURCE_CONFIG)
    target = start_server(pair[1])
    names = [f"timed:{number}" for number in range(20)]
    with source.client(db=4) as client:
        for name in names:
            client.set(name, "1", px=10 * MINUTE_MS)
        client.rpush("whole", "a", "b")
    folder = tmp_path / "t1"
    settings = make_settings(
        source.endpoint, target.endpoint, spool=SpoolSettings(directory=folder)
    )
    async with running(settings) as run:
        await run.reaches_offset(offset_of(source))
    # As if it had died in the middle of a note, with these on the target.
    with target.client(db=4) as client:
        for name in names:
            client.pexpire(name, MARGIN_MS + DAY_MS)
        client.delete("whole")
    OwedFile(folder).add([(False, 4, name.encode()) for name in names] + [(True, 4, b"whole")])
    with (folder / FILE_NAME).open("a") as file:
        file.write('[false, 4, "dG')

    async with running(settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await run.reaches_offset(offset_of(source))
        await run.reaches(lambda: not (folder / FILE_NAME).exists(), "nothing is noted any more")

    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert (run.task.status().full_resyncs, run.task.status().partial_resyncs) == (0, 1)


async def test_more_names_than_memory_holds_are_read_from_the_file(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.replay.owed.MOST_HELD", 30)
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    names = [f"renewed:{number}" for number in range(200)]
    with source.client(db=4) as client:
        for name in names:
            client.set(name, name, px=10 * MINUTE_MS)
    folder = tmp_path / "t1"
    settings = make_settings(
        source.endpoint, target.endpoint, spool=SpoolSettings(directory=folder)
    )
    async with running(settings) as run:
        await run.reaches_offset(offset_of(source))
    with target.client(db=4) as client:
        client.delete(*names)  # as if they had expired there before they were renewed
    OwedFile(folder).add([(True, 4, name.encode()) for name in names])

    async with running(settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await run.reaches_offset(offset_of(source))
        await run.reaches(lambda: not (folder / FILE_NAME).exists(), "nothing is noted any more")

    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert run.task.status().keys_fetched_again >= len(names)
