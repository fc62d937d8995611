"""A target that refuses writes for a while: the task waits, says why and what helps, and goes on where it was."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from engine.demo.servers import RunningServer
from engine.settings import TargetSettings
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.faults.arena import holds
from tests.fix_servers import StartServer
from tests.live.running_task import Run, running
from tests.live.workload import writing
from tests.live.world import Ways, World, events, following, make_world, ways_of

pytestmark = [pytest.mark.live, pytest.mark.faults]

TOO_LITTLE_BYTES = 1024 * 1024  # less than an empty server has
RETRIES = 2
SMALL_BLOCKS = TargetSettings(block_bytes=512, inflight_bytes=256 * 1024)
ENDLESS = "while true do end"
MIB = 1024 * 1024


@contextmanager
def out_of_memory(target: RunningServer) -> Iterator[None]:
    with target.client() as client:
        client.config_set("maxmemory", TOO_LITTLE_BYTES)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def unable_to_save(target: RunningServer) -> Iterator[None]:
    """A folder stands where the dump is to go: that stops root as well."""
    in_the_way = target.directory / "dump.rdb"
    in_the_way.mkdir()
    with target.client() as client:
        client.config_set("save", "3600 1")
        _save_in_background(client, "err")
        yield
        in_the_way.rmdir()
        _save_in_background(client, "ok")


def _save_in_background(client: redis.Redis, outcome: str) -> None:
    client.execute_command("BGSAVE", "SCHEDULE")
    holds(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == outcome,
        f"the save ends: {outcome}",
    )


@contextmanager
def without_its_replicas(target: RunningServer) -> Iterator[None]:
    with target.client() as client:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)


@contextmanager
def demoted(target: RunningServer) -> Iterator[None]:
    """A replica of nobody who answers, so that it keeps its data."""
    with target.client() as client:
        client.execute_command("REPLICAOF", target.host, 1)
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def cut_off_from_its_primary(target: RunningServer) -> Iterator[None]:
    with target.client() as client:
        client.config_set("replica-serve-stale-data", "no")
    with demoted(target):
        yield


@dataclass(frozen=True)
class Refusal:
    """words: of the target, in the status. remedy: what the status must say that helps."""

    words: str
    remedy: str
    refusing: Callable[[RunningServer], Any]


REFUSALS = [
    Refusal("OOM", "CONFIG SET maxmemory", out_of_memory),
    Refusal("MISCONF", "repair its disk", unable_to_save),
    Refusal("NOREPLICAS", "CONFIG SET min-replicas-to-write 0", without_its_replicas),
    Refusal("is a replica of", "use its primary's address", demoted),
    Refusal("is a replica of", "REPLICAOF NO ONE", cut_off_from_its_primary),
]


def name_of(refusal: Refusal) -> str:
    return refusal.refusing.__name__


each_refusal = pytest.mark.parametrize("refusal", REFUSALS, ids=name_of)


def not_ready_tries(run: Run) -> int:
    return run.task.status().retries.get("TargetNotReady", 0)


async def waits_and_says_why(run: Run, words: str, remedy: str) -> None:
    """It has tried more than once, and the status names the reason and the remedy."""
    before = not_ready_tries(run)
    await run.reaches(lambda: not_ready_tries(run) >= before + RETRIES, f"{words!r} is met again")
    error = str(run.task.status().error)
    assert run.task.state is TaskState.RECOVERING
    assert words in error
    assert remedy in error


async def goes_on(run: Run) -> None:
    await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream again")
    assert run.task.status().error is None


async def ends_equal(world: World, run: Run) -> None:
    await world.is_caught_up(run)
    await run.stop()
    assert await world.is_equal_and_clean()


@each_refusal
async def test_refused_in_the_stream_it_waits_and_goes_on_where_it_was(
    refusal: Refusal, start_server: StartServer
) -> None:
    world = await make_world(start_server)
    async with following(world) as (run, load):
        with refusal.refusing(world.target):
            await waits_and_says_why(run, refusal.words, refusal.remedy)
            await load.has_written(300)
        await goes_on(run)
        await load.has_written(300)
        await load.stop()
        await ends_equal(world, run)

    assert ways_of(run) == Ways(full=1, partial=0, reconnects=1)
    assert set(run.task.status().retries) == {"TargetNotReady"}


@pytest.mark.parametrize("refusal", REFUSALS[:1] + REFUSALS[3:4], ids=name_of)
async def test_refused_in_the_snapshot_it_waits_and_sends_only_what_is_missing(
    refusal: Refusal, start_server: StartServer
) -> None:
    world = await make_world(start_server, bandwidth_limit_bytes_per_second=MIB)
    with world.source.client(db=3) as client:
        for number in range(24):
            client.set(f"big:{number}", os.urandom(64 * 1024))
    async with running(world.settings) as run, writing(world.source.endpoint, rate=500) as load:
        await run.reaches(lambda: run.task.status().keys_applied > 200, "a part of the snapshot")
        with refusal.refusing(world.target):
            assert run.task.state is TaskState.SNAPSHOT
            await waits_and_says_why(run, refusal.words, refusal.remedy)
        run.task.set_bandwidth_limit(None)
        await goes_on(run)
        await load.stop()
        await ends_equal(world, run)

    assert ways_of(run) == Ways(full=1, partial=0, reconnects=1)
    assert run.task.status().keys_applied >= run.task.status().snapshot_keys_expected > 0


async def test_memory_that_is_short_again_and_again_makes_no_hole(
    start_server: StartServer,
) -> None:
    """Many small blocks are on their way each time, so some are refused with others behind them."""
    world = await make_world(start_server, target_link=SMALL_BLOCKS)
    with capture_logs() as logs:
        async with following(world) as (run, load):
            for _ in range(8):
                before = not_ready_tries(run)
                with out_of_memory(world.target):
                    await run.reaches(lambda b=before: not_ready_tries(run) > b, "it is refused")
                await goes_on(run)
                await load.has_written(100)
            with world.target.client() as client:
                for _ in range(100):  # shorter than a block's way: only some of a burst are refused
                    client.config_set("maxmemory", TOO_LITTLE_BYTES)
                    client.config_set("maxmemory", 0)
                    await asyncio.sleep(0)
            await load.has_written(300)
            await load.stop()
            await ends_equal(world, run)

    assert not_ready_tries(run) >= 8
    # A hole that the target's own timing made is found, not gone on from.
    assert ways_of(run).full == 1 + len(events(logs, "checkpoint.has_hole"))


async def test_a_script_that_holds_the_target_is_waited_for(start_server: StartServer) -> None:
    world = await make_world(start_server, target_config={"busy-reply-threshold": 50})
    async with following(world) as (run, load):
        with world.target.client() as client, world.target.client() as other:
            script = asyncio.create_task(asyncio.to_thread(client.eval, ENDLESS, 0))
            await waits_and_says_why(run, "BUSY", "SCRIPT KILL")
            other.script_kill()
            with pytest.raises(redis.ResponseError, match="killed"):
                await script
        await goes_on(run)
        await load.has_written(300)
        await load.stop()
        await ends_equal(world, run)

    assert ways_of(run) == Ways(full=1, partial=0, reconnects=1)


async def test_a_target_that_loads_for_long_is_waited_for(start_server: StartServer) -> None:
    world = await make_world(start_server)
    async with following(world) as (run, load):
        with world.target.client() as client:
            client.save()
        world.target.config |= {
            "key-load-delay": 4000,  # microseconds for each
            "loading-process-events-interval-bytes": 1024,
        }
        world.target.kill()
        starting = asyncio.create_task(asyncio.to_thread(world.target.start))
        await run.reaches(lambda: not_ready_tries(run) > 0, "it is told that data are loaded")
        error = str(run.task.status().error).lower()
        assert "loading" in error
        assert "wait" in error
        with world.target.client() as client:
            client.config_set("key-load-delay", 0)
        await until(starting.done, "the data are loaded")
        await starting
        await goes_on(run)
        await load.has_written(300)
        await load.stop()
        await ends_equal(world, run)

    assert ways_of(run) == Ways(full=1, partial=0, reconnects=1)
    assert set(run.task.status().retries) <= {
        "TargetNotReady",
        "TargetUnreachable",
        "TargetLinkLost",
    }
