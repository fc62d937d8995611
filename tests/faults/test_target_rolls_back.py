"""A target that comes back without its last writes gets exactly those, from wherever they still are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.demo.servers import RunningServer
from engine.demo.wire import Wire
from engine.settings import SpoolSettings
from tests.fix_servers import StartServer
from tests.live.proxied_world import ProxiedWorld, proxied_world, under_load
from tests.live.running_task import Run
from tests.live.sides import CONFIG
from tests.live.workload import Writing
from tests.live.world import KEYS, World, events, following, is_back, make_world
from tests.servers.fault_proxy import FaultProxy, Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

MIB = 1024 * 1024
LOST_AOF_BYTES = 10_001
EVERY_SECOND = {"appendonly": "yes", "appendfsync": "everysec"}
NO_TAIL = SpoolSettings(memory_bytes=4 * MIB, tail_bytes=0)
# The least that a server keeps.
SMALL_BACKLOG: dict[str, str | int] = {"repl-backlog-size": "16kb"}
LOAD_COMMANDS = 800
LIFE_MS = 700
RENEWED_KEYS = 30
LASTING_MS = 600_000

RollBack = Callable[[World, Writing], Awaitable[None]]


async def killed(world: World, load: Writing) -> None:
    """What the system has buffered survives the process: nothing is lost, or the last moment is."""
    world.target.kill()
    await asyncio.to_thread(world.target.start)


def newest_aof(server: RunningServer) -> Path:
    (found,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    return found


async def without_the_end_of_its_aof(world: World, load: Writing) -> None:
    """As after a loss of power; the cut is in the middle of a command, of a transaction too."""
    world.target.kill()
    aof = newest_aof(world.target)
    size = aof.stat().st_size
    assert size > 2 * LOST_AOF_BYTES
    with aof.open("r+b") as file:
        file.truncate(size - LOST_AOF_BYTES)
    await asyncio.to_thread(world.target.start)


async def from_an_older_dump(world: World, load: Writing) -> None:
    with world.target.client() as client:
        client.save()
    await load.has_written(LOAD_COMMANDS)
    world.target.kill()
    await asyncio.to_thread(world.target.start)


async def has_applied(run: Run, commands: int) -> None:
    """A source that sends its snapshot from memory may begin the stream a second later."""
    await run.reaches(
        lambda: run.task.status().commands_applied > commands, f"{commands} commands are applied"
    )


async def rolled_back(
    world: World, roll_back: RollBack, *, resyncs: tuple[int, int]
) -> list[object]:
    """Follow a writing source, roll the target back, end equal. resyncs: full and partial ones. Returns the logs."""
    with capture_logs() as logs:
        async with following(world) as (run, load):
            await has_applied(run, LOAD_COMMANDS)
            await roll_back(world, load)
            await is_back(run)
            await load.has_written(300)
            await load.stop()
            await world.is_caught_up(run)
            status = run.task.status()
    assert await world.is_equal_and_clean()
    assert (status.full_resyncs, status.partial_resyncs) == resyncs
    return list(logs)


@pytest.mark.parametrize("roll_back", [killed, without_the_end_of_its_aof])
async def test_what_an_aof_of_every_second_has_lost_comes_out_of_the_spool(
    roll_back: RollBack, start_server: StartServer
) -> None:
    world = await make_world(start_server, target_config=EVERY_SECOND)
    await rolled_back(world, roll_back, resyncs=(1, 0))


async def test_what_an_older_dump_lacks_comes_out_of_the_spool(start_server: StartServer) -> None:
    await rolled_back(await make_world(start_server), from_an_older_dump, resyncs=(1, 0))


async def test_what_the_spool_no_longer_has_is_asked_of_the_source(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, spool=NO_TAIL)
    logs = await rolled_back(world, from_an_older_dump, resyncs=(1, 1))
    assert len(events(logs, "psync.partial_resync")) == 1


async def test_what_nobody_has_any_more_leads_to_a_full_resync_that_is_said_aloud(
    start_server: StartServer, tmp_path: Path
) -> None:
    spool = replace(NO_TAIL, directory=tmp_path / "t1")
    world = await make_world(start_server, spool=spool, source_config=SMALL_BACKLOG)
    logs = await rolled_back(world, from_an_older_dump, resyncs=(2, 0))
    first, second = events(logs, "psync.full_resync")
    assert first["log_level"] == "info"
    assert second["log_level"] == "warning"
    assert second["asked"]
    assert second["source_has"]


async def fail_over(it: ProxiedWorld, replica: RunningServer, run: Run, load: Writing) -> None:
    """A replica of the target that gets nothing for a while becomes the target."""
    async with FaultProxy(it.world.target.port) as replication:
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", replication.port)
            await run.reaches(
                lambda: client.info("replication").get("master_link_status") == "up",
                "the replica follows",
            )
            await load.has_written(300)
            replication.stall(Way.TO_CLIENT)
            await load.has_written(LOAD_COMMANDS)
            it.world.target.kill()
            client.execute_command("REPLICAOF", "NO", "ONE")
            it.target.server_address = ("127.0.0.1", replica.port)


@pytest.mark.parametrize("rounds", [1, 2], ids=["once", "and-back"])
async def test_a_failover_to_a_lagging_replica_costs_nothing(
    rounds: int, start_server: StartServer
) -> None:
    async with proxied_world(start_server, target_config=CONFIG) as it:
        servers = [it.world.target, start_server(it.world.target.binary.name, config=CONFIG)]
        async with under_load(it) as (run, load):
            await has_applied(run, 300)
            for number in range(rounds):
                primary, replica = servers[number % 2], servers[(number + 1) % 2]
                if not replica.is_running:
                    await asyncio.to_thread(replica.start)
                now = ProxiedWorld(
                    World(it.world.source, primary, it.world.settings), it.source, it.target
                )
                await fail_over(now, replica, run, load)
                await run.reaches(
                    lambda number=number: run.task.status().target_reconnects == number + 1,
                    "the new primary is written to",
                )
                await load.has_written(300)
            await load.stop()
            await it.world.is_caught_up(run)
            status = run.task.status()
        last = World(it.world.source, servers[rounds % 2], it.world.settings)
        assert await last.is_equal_and_clean()
    assert (status.full_resyncs, status.partial_resyncs) == (1, 0)


def renew(wire: Wire, ms: int) -> None:
    """They are changed as well, so that one that was made anew would show."""
    for number in range(RENEWED_KEYS):
        wire.ask("APPEND", f"renewed:{number}", b".")
        wire.ask("PEXPIRE", f"renewed:{number}", ms)
        wire.ask("HINCRBY", f"renewed:h:{number}", "count", 1)
        wire.ask("HPEXPIRE", f"renewed:h:{number}", ms, "FIELDS", 1, "count")


@pytest.mark.parametrize("is_settled", [False, True], ids=["owing", "settled"])
async def test_a_key_that_expired_while_the_target_was_away_and_was_renewed_is_whole_again(
    is_settled: bool, start_server: StartServer
) -> None:
    """The dump holds it with a time that is past when the target loads it; the renewal came later.

    owing: at first, when expiries of the snapshot may still be owed, while the stream's are exact.
    """
    world = await make_world(start_server, keys=8 * KEYS if not is_settled else KEYS)
    async with following(world) as (run, load):
        await has_applied(run, 0)
        if is_settled:
            await run.reaches(lambda: not run.task.status().expiries_owed, "all is settled")
        with Wire(world.source.endpoint) as wire, world.target.client() as client:
            for number in range(RENEWED_KEYS):
                wire.ask("SET", f"renewed:{number}", "first")
                wire.ask("HSET", f"renewed:h:{number}", "count", 1, "stays", 1)
            renew(wire, LIFE_MS)
            await run.reaches(
                lambda: (
                    client.exists(*(f"renewed:{n}" for n in range(RENEWED_KEYS))) == RENEWED_KEYS
                ),
                "the keys are there",
            )
            renew(wire, LIFE_MS)
            client.save()
            renew(wire, LASTING_MS)
            world.target.kill()
        await asyncio.sleep(2 * LIFE_MS / 1000)  # the time is the fault here
        await asyncio.to_thread(world.target.start)
        await is_back(run)
        await load.has_written(200)
        await load.stop()
        await world.is_caught_up(run)
    with world.source.client() as client:
        assert client.exists(*(f"renewed:{n}" for n in range(RENEWED_KEYS))) == RENEWED_KEYS
    assert await world.is_equal_and_clean()
    assert run.task.status().full_resyncs == 1
