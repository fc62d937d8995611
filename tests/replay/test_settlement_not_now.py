"""A source that does not answer now, another history, a replica: what the settlement makes of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from engine.demo.servers import RunningServer
from engine.errors import SourceNotReady
from engine.replay.settlement import Settlement
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import compared, offset_of
from tests.live.world import SOURCE_CONFIG
from tests.replay.test_settlement import expiry_ms, settlement

pytestmark = pytest.mark.live

ENDLESS = "while true do end"
MINUTE_MS = 60_000
BUSY_SOON = {"redis-6.2": "lua-time-limit", "redis-8.2": "busy-reply-threshold"}


@asynccontextmanager
async def held_by_a_script(server: RunningServer) -> AsyncIterator[None]:
    """It answers BUSY, until the script is killed."""

    def answers_busy() -> bool:
        try:
            other.get("any")
        except redis.ResponseError as error:
            return "BUSY" in str(error)
        return False

    with server.client() as client, server.client() as other:
        script = asyncio.create_task(asyncio.to_thread(client.eval, ENDLESS, 0))
        await until(answers_busy, "a script holds the server")
        try:
            yield
        finally:
            other.script_kill()
            with pytest.raises(redis.ResponseError, match="killed"):
                await script


@pytest.mark.parametrize("name", BUSY_SOON)
async def test_a_script_that_holds_the_source_is_no_refusal(
    name: str, start_server: StartServer
) -> None:
    source = start_server(name, config={BUSY_SOON[name]: 50})
    async with settlement(source) as asked:
        async with held_by_a_script(source):
            with pytest.raises(SourceNotReady, match="BUSY"):
                await asked.check()
            with pytest.raises(SourceNotReady, match="BUSY"):
                await asked.ask([(0, b"a")], [(0, b"b")])
        assert await asked.check()
        assert asked.refused == ""


@pytest.mark.parametrize("name", BUSY_SOON)
async def test_after_the_script_all_expiries_are_corrected(
    name: str, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = start_server(name, config=SOURCE_CONFIG | {BUSY_SOON[name]: 50})
    target = start_server("redis-8.2")
    with source.client() as client:
        for number in range(50):
            client.set(f"timed:{number}", "1", px=10 * MINUTE_MS)
    ask, refusals, gate = Settlement.ask, 0, asyncio.Event()

    async def ask_when_held(self: Settlement, keys: list, wholes: list, **options: bool) -> object:  # type: ignore[type-arg]
        nonlocal refusals
        if any(name for _, name in keys):
            gate.set()
            await held.wait()
        try:
            return await ask(self, keys, wholes, **options)
        except SourceNotReady:
            refusals += 1
            raise

    held = asyncio.Event()
    monkeypatch.setattr(Settlement, "ask", ask_when_held)
    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await run.reaches(gate.is_set, "the source is about to be asked")
        async with held_by_a_script(source):
            held.set()
            await run.reaches(lambda: refusals, "the source is asked in vain")
            assert run.task.status().expiries_owed
        await run.reaches_offset(offset_of(source))
        assert abs(expiry_ms(target, "timed:7") - expiry_ms(source, "timed:7")) < 1000
    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert run.task.status().full_resyncs == 1


async def test_an_answer_from_another_history_is_none(start_server: StartServer) -> None:
    source = start_server("redis-8.2")
    with source.client() as client:
        ours = str(client.info("replication")["master_replid"])
    async with settlement(source, replid=ours) as asked:
        assert await asked.ask([(0, b"a")], []) is not None
    async with settlement(source, replid="8f2c" * 10) as asked:
        with pytest.raises(SourceNotReady, match="another history"):
            await asked.ask([(0, b"a")], [])
        assert asked.refused == ""


async def test_what_a_replica_calls_expired_stays_until_its_primary_says_so(
    start_server: StartServer, tmp_path: Path
) -> None:
    config = SOURCE_CONFIG | {"enable-debug-command": "yes"}
    primary, replica = (start_server("redis-8.2", config=config) for _ in range(2))
    target = start_server("redis-8.2")
    with primary.client() as client, replica.client() as other, target.client() as there:
        client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        other.replicaof(primary.host, primary.port)
        await until(
            lambda: other.info("replication")["master_link_status"] == "up", "the replica follows"
        )
        client.set("expired", "1", px=50)
        await until(lambda: other.dbsize() == 1, "the replica has the key")
        await until(lambda: other.pttl("expired") == -2, "the replica calls it expired")
        settings = make_settings(
            replica.endpoint, target.endpoint, spool=SpoolSettings(directory=tmp_path / "t1")
        )
        async with running(settings) as run:
            await run.reaches_offset(offset_of(replica))
            await run.reaches(lambda: not run.task.status().expiries_owed, "all is settled")
            assert there.pttl("expired") > MINUTE_MS
            assert client.get("expired") is None  # now the primary says so
            await run.reaches(lambda: not there.exists("expired"), "it is gone")
    found = await compared(primary, target)
    assert found.is_equal, str(found)
    assert run.task.status().full_resyncs == 1
