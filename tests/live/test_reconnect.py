"""Lost connections, under a load that tells each command apart."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from structlog.testing import capture_logs

from engine.demo.servers import RunningServer
from engine.errors import SourceLinkLost, TargetLinkLost
from engine.settings import (
    ResumeMode,
    SpoolSettings,
)
from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.counting import counting
from tests.live.running_task import running
from tests.live.sides import offset_of
from tests.live.world import (
    AOF,
    KEYS,
    MIB,
    PAIRS,
    PROMPT_SECONDS,
    SIDES,
    Ways,
    World,
    events,
    following,
    is_back,
    kill_link,
    kill_replica,
    make_world,
    ways_of,
)

pytestmark = pytest.mark.live

each_pair = pytest.mark.parametrize("pair", PAIRS, ids=["-to-".join(it) for it in PAIRS])


def after_one_loss(side: str) -> Ways:
    """The source is asked to go on; for the target the spool still has what it lacks."""
    return Ways(full=1, partial=1 if side == "source" else 0, reconnects=1)


@pytest.fixture
async def world(start_server: StartServer) -> World:
    return await make_world(start_server)


def fill_beyond_the_socket_buffers(source: RunningServer) -> None:
    """Values that cannot be compressed, more than the system keeps for a connection that is not read."""
    with source.client(db=3) as client:
        for number in range(24):
            client.set(f"big:{number}", os.urandom(MIB))


@pytest.mark.parametrize("side", SIDES)
@each_pair
async def test_a_connection_killed_in_mid_stream_comes_back_by_partial_resync(
    pair: tuple[str, str], side: str, start_server: StartServer
) -> None:
    world = await make_world(start_server, pair=pair)
    async with following(world) as (run, load):
        kill_link(world, side)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == after_one_loss(side)
    assert run.states.count(TaskState.RECOVERING) == 1
    assert run.task.status().errors == 1


@each_pair
async def test_connections_killed_again_and_again_lose_and_double_nothing(
    pair: tuple[str, str], start_server: StartServer
) -> None:
    world = await make_world(start_server, pair=pair)
    async with following(world) as (run, load):
        for number in range(1, 7):
            kill_link(world, SIDES[number % 2])
            await run.reaches(
                lambda number=number: (
                    ways_of(run).reconnects == number and run.task.state is TaskState.STREAM
                ),
                f"reconnection {number}",
            )
            await load.has_written(200)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=1, partial=3, reconnects=6)
    assert run.task.status().source_reconnects == run.task.status().target_reconnects == 3


@pytest.mark.parametrize("side", SIDES)
async def test_the_loss_of_an_idle_connection_is_noticed_at_once(side: str, world: World) -> None:
    async with running(world.settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await run.reaches(lambda: run.task.status().lag_bytes == 0, "nothing to do")

        kill_link(world, side)
        began = time.monotonic()
        await is_back(run)
        assert time.monotonic() - began < PROMPT_SECONDS
        with world.source.client() as client:
            client.incr("afterwards")
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == after_one_loss(side)


@pytest.mark.parametrize("side", SIDES)
async def test_a_connection_killed_during_the_snapshot_costs_a_second_one_only_at_the_source(
    side: str, start_server: StartServer
) -> None:
    world = await make_world(
        start_server,
        spool=SpoolSettings(memory_bytes=256 * 1024),
        bandwidth_limit_bytes_per_second=MIB,
    )
    await asyncio.to_thread(fill_beyond_the_socket_buffers, world.source)
    # Keys deleted between two snapshots would stay: this load counts and deletes nothing.
    async with running(world.settings) as run, counting(world.source) as load:
        await run.reaches(lambda: run.task.status().keys_applied, "keys are applied")
        kill_link(world, side)
        assert run.task.state is TaskState.SNAPSHOT
        # What the sockets hold comes first; only then the end of the source's connection shows.
        run.task.set_bandwidth_limit(None)
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    # The target still has what it confirmed; what was on its way is sent again.
    assert ways_of(run) == Ways(full=2 if side == "source" else 1, partial=0, reconnects=1)
    assert run.task.status().keys_applied >= KEYS


async def test_a_backlog_that_is_too_small_leads_to_a_full_resync_and_a_warning(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, source_config={"repl-backlog-size": "16kb"})

    def write_more_than_the_backlog(state: TaskState) -> None:
        if state is TaskState.RECOVERING:
            with world.source.client() as client:
                for number in range(64):
                    client.append("big", bytes([number]) * 1024)

    with capture_logs() as logs:
        async with running(world.settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            run.task.on_state_change(write_more_than_the_backlog)
            kill_replica(world.source)
            await is_back(run)
            await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=2, partial=0, reconnects=1)
    assert [it["log_level"] for it in events(logs, "psync.full_resync")] == ["info", "warning"]


@pytest.mark.parametrize("side", SIDES)
async def test_in_manual_mode_it_ends_with_the_reason_and_a_second_run_goes_on(
    side: str, start_server: StartServer
) -> None:
    world = await make_world(start_server, resume_mode=ResumeMode.MANUAL)
    async with following(world) as (run, load):
        kill_link(world, side)
        with pytest.raises((SourceLinkLost, TargetLinkLost), match=f"the {side} .* was lost"):
            await asyncio.wait_for(asyncio.shield(run.future), PROMPT_SECONDS)
        assert run.task.state is TaskState.FAILED
        assert run.task.status().error is not None
        assert ways_of(run) == Ways(full=1, partial=0, reconnects=0)

        async with running(world.settings) as second:
            await second.reaches(lambda: second.task.state is TaskState.STREAM, "the stream phase")
            await load.has_written(500)
            await load.stop()
            await world.is_caught_up(second)

    assert await world.is_equal_and_clean()
    assert ways_of(second) == Ways(full=0, partial=1, reconnects=0)


async def test_a_task_that_has_run_waits_for_a_source_that_is_away_at_its_start(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, source_config=AOF)
    async with running(world.settings) as run:
        await run.reaches_offset(offset_of(world.source))
    world.source.kill()

    async with running(world.settings) as run:
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the source is missed")
        await asyncio.to_thread(world.source.start)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert run.task.status().retries["SourceUnreachable"] >= 1
