"""Migrations between containers: pauses, cut networks, kills. Nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from engine.settings import SourceSettings, TargetSettings
from engine.supervision.states import TaskState
from tests.fix_containers import ContainerServer, engine, need_engine
from tests.fix_servers import BINARIES
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import filled, offset_of
from tests.live.world import SOURCE_CONFIG, Ways, World, is_back, ways_of

pytestmark = [pytest.mark.live, pytest.mark.faults, pytest.mark.containers]

SERVER = "redis-8.2"
SILENCE_SECONDS = 2
AOF = {"appendonly": "yes", "appendfsync": "always"}
KEYS = 300


@pytest.fixture
def world() -> Iterator[World]:
    """Two containers, the source with keys, and a task between them that notices silence soon."""
    need_engine()
    if SERVER not in BINARIES:
        pytest.skip(f"no {SERVER} on this machine")
    source_config = SOURCE_CONFIG | {"repl-timeout": SILENCE_SECONDS}
    source = ContainerServer(BINARIES[SERVER], config=source_config)
    target = ContainerServer(BINARIES[SERVER], config=AOF)
    try:
        source.start()
        target.start()
        asyncio.run(filled(source, KEYS, seed=3))
        settings = make_settings(
            source.endpoint,
            target.endpoint,
            source_link=SourceSettings(connect_timeout_seconds=2, handshake_timeout_seconds=20),
            target_link=TargetSettings(
                connect_timeout_seconds=2, reply_timeout_seconds=SILENCE_SECONDS
            ),
        )
        yield World(source, target, settings)
    finally:
        source.stop()
        target.stop()


@asynccontextmanager
async def counting(world: World) -> AsyncIterator[None]:
    """Writes to the source that would show if one were applied twice or not at all."""
    stop = asyncio.Event()

    async def write() -> None:
        client = world.source.async_client()
        number = 0
        while not stop.is_set():
            pipe = client.pipeline(transaction=number % 2 == 0)
            for _ in range(20):
                number += 1
                pipe.incr("counter")
                pipe.rpush(f"list:{number % 5}", number)
            await pipe.execute()
        await client.aclose()

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        stop.set()
        await writing


async def in_stream(run: Run) -> None:
    await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
    await run.reaches(lambda: run.task.status().commands_applied > 100, "some commands")


async def test_a_paused_target_gets_what_it_missed(world: World) -> None:
    async with running(world.settings) as run:
        async with counting(world):
            await in_stream(run)
            world.target.pause()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the pause is noticed")
            world.target.unpause()
            await is_back(run)
        await world.is_caught_up(run)
        assert ways_of(run) == Ways(full=1, partial=0, reconnects=1)
    assert await world.is_equal_and_clean()


async def test_a_target_without_network_gets_what_it_missed(world: World) -> None:
    async with running(world.settings) as run:
        async with counting(world):
            await in_stream(run)
            world.target.cut()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the cut is noticed")
            world.target.mend()
            await is_back(run)
        await world.is_caught_up(run)
        assert ways_of(run) == Ways(full=1, partial=0, reconnects=1)
    assert await world.is_equal_and_clean()


async def test_a_source_without_network_is_followed_from_where_it_was_left(world: World) -> None:
    async with running(world.settings) as run:
        async with counting(world):
            await in_stream(run)
        await run.reaches_offset(offset_of(world.source))
        world.source.cut()
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the cut is noticed")
        world.source.mend()
        async with counting(world):
            await is_back(run)
        await world.is_caught_up(run)
        assert ways_of(run) == Ways(full=1, partial=1, reconnects=1)
    assert await world.is_equal_and_clean()


async def test_a_killed_target_that_kept_its_data_goes_on(world: World) -> None:
    async with running(world.settings) as run:
        async with counting(world):
            await in_stream(run)
            await asyncio.to_thread(world.target.kill)
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the kill is noticed")
            await asyncio.to_thread(world.target.start)
            await is_back(run)
        await world.is_caught_up(run)
        assert ways_of(run).full == 1
        assert run.task.status().target_reconnects == 1
    assert await world.is_equal_and_clean()


def test_nothing_of_a_server_is_left_after_it_was_stopped() -> None:
    client = need_engine()
    if SERVER not in BINARIES:
        pytest.skip(f"no {SERVER} on this machine")
    server = ContainerServer(BINARIES[SERVER]).start()
    name, network = server._container.name, server._network.name
    assert server.is_running

    server.stop()

    assert name not in {it.name for it in client.containers.list(all=True, ignore_removed=True)}
    assert network not in {it.name for it in engine().networks.list()}
