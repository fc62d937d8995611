"""Servers and workers that die or hang, under a load that tells each command apart."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.settings import (
    SourceSettings,
    TargetSettings,
)
from engine.supervision.states import TaskState
from tests.control.command_line import COMMAND, environment
from tests.fix_servers import StartServer
from tests.live.workload import writing
from tests.live.world import (
    AOF,
    PROMPT_SECONDS,
    RATE,
    World,
    events,
    following,
    is_back,
    make_world,
    stopped,
    ways_of,
)

pytestmark = pytest.mark.live


@pytest.fixture
async def world(start_server: StartServer) -> World:
    return await make_world(start_server)


async def sync(world: World, *options: str) -> asyncio.subprocess.Process:
    """`redis-ferry sync` as a process of its own, with its progress on stdout."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(*COMMAND, "sync", world.source.url, world.target.url, "--progress=json", *options),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def last_status(child: asyncio.subprocess.Process) -> dict[str, Any]:
    """The last progress object of a run that ends by itself."""
    try:
        async with asyncio.timeout(30):
            stdout, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()
    assert child.returncode == 0
    return dict(json.loads(stdout.splitlines()[-1]))


async def test_a_worker_killed_in_mid_stream_goes_on_exactly_there(world: World) -> None:
    async with writing(world.source.endpoint, rate=RATE) as load:
        killed = await sync(world, "--task-id=t1")
        assert killed.stdout is not None
        async for line in killed.stdout:
            status = json.loads(line)
            if status["phase"] == "stream" and status["commands_applied"] > 1000:
                break
        killed.kill()
        await killed.communicate()
        await load.has_written(500)

        under_load = await last_status(await sync(world, "--task-id=t1", "--exit-when-synced"))
        await load.stop()
    at_rest = await last_status(await sync(world, "--task-id=t1", "--exit-when-synced"))

    assert await world.is_equal_and_clean()
    for status in (under_load, at_rest):
        assert (status["full_resyncs"], status["partial_resyncs"]) == (0, 1)
        assert status["reconnects"] == status["errors"] == 0


async def test_a_target_that_dies_and_comes_back_with_its_data_goes_on(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, target_config=AOF)
    async with following(world) as (run, load):
        world.target.kill()
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
        await load.has_written(500)
        await asyncio.to_thread(world.target.start)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == replace(ways_of(run), full=1, partial=0)
    assert run.task.status().target_reconnects == 1
    assert run.task.status().reconnects >= 1


async def test_a_source_that_comes_back_with_a_new_history_is_taken_as_a_whole(
    start_server: StartServer,
) -> None:
    # An AOF keeps the data and not the replication id.
    world = await make_world(start_server, source_config=AOF)
    with capture_logs() as logs:
        async with following(world) as (run, load):
            await load.stop()
            await world.is_caught_up(run)
            world.source.kill()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
            await asyncio.to_thread(world.source.start)
            await is_back(run)
            with world.source.client() as client:
                client.incr("afterwards")
            await world.is_caught_up(run)
            await run.reaches(lambda: run.task.status().lag_bytes == 0, "no lag")

    assert await world.is_equal_and_clean()
    assert ways_of(run) == replace(ways_of(run), full=2, partial=0)
    first, second = events(logs, "psync.full_resync")
    assert first["log_level"] == "info"
    assert second["log_level"] == "warning"
    assert second["asked"] != second["source_has"]


async def test_a_source_that_hangs_is_given_up_after_the_silence_timeout(
    start_server: StartServer,
) -> None:
    world = await make_world(
        start_server,
        source_link=SourceSettings(
            connect_timeout_seconds=2, handshake_timeout_seconds=2, silence_timeout_seconds=2
        ),
    )
    async with following(world) as (run, load):
        with stopped(world.source):
            began = time.monotonic()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the silence is noticed")
            noticed_after = time.monotonic() - began
            assert "the source sent nothing for" in str(run.task.status().error)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert 1.5 < noticed_after < 2 + PROMPT_SECONDS
    assert ways_of(run) == replace(ways_of(run), full=1, partial=1)


async def test_a_target_that_hangs_is_given_up_after_the_reply_timeout(
    start_server: StartServer,
) -> None:
    world = await make_world(
        start_server,
        target_link=TargetSettings(connect_timeout_seconds=2, reply_timeout_seconds=2),
    )
    async with following(world) as (run, load):
        with stopped(world.target):
            began = time.monotonic()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the silence is noticed")
            noticed_after = time.monotonic() - began
            assert "sent no reply for" in str(run.task.status().error)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert 1.5 < noticed_after < 2 + PROMPT_SECONDS
    assert ways_of(run) == replace(ways_of(run), full=1, partial=0)
    assert run.task.status().target_reconnects == 1
