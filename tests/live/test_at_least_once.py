"""at-least-once: the checkpoint survives what takes database 0 away, and a hole costs one full resync."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.checkpoint.checkpoint import checkpoint_key
from engine.settings import DeliveryMode, SpoolSettings
from tests.fix_servers import StartServer
from tests.live.running_task import running
from tests.live.sides import keys_of_ours, offset_of
from tests.live.world import Ways, World, make_world, ways_of

pytestmark = pytest.mark.live

KEY = checkpoint_key("t1", "0")


async def a_world(start_server: StartServer, folder: Path) -> World:
    return await make_world(
        start_server,
        keys=100,
        delivery=DeliveryMode.AT_LEAST_ONCE,
        spool=SpoolSettings(directory=folder / "t1"),
    )


@pytest.mark.parametrize("change", ["SWAPDB 0 1", "FLUSHALL", "FLUSHDB"])
async def test_behind_a_change_of_database_0_the_checkpoint_stands_there_alone(
    change: str, start_server: StartServer, tmp_path: Path
) -> None:
    world = await a_world(start_server, tmp_path)
    async with running(world.settings) as run:
        await world.is_caught_up(run)
        with world.source.client() as client, world.target.client() as there:
            client.execute_command(*change.split())
            await run.reaches_offset(changed := offset_of(world.source))
            await run.reaches(lambda: there.hget(KEY, "offset"), "a checkpoint")
            assert int(there.hget(KEY, "offset")) >= changed
            assert keys_of_ours(world.target) == [(0, KEY)]
            client.set("behind", 1)
        await world.is_caught_up(run)
    assert await world.is_equal_and_clean()
    async with running(world.settings) as run:
        await world.is_caught_up(run)
    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=0, partial=1, reconnects=0)


async def test_a_hole_costs_one_full_resync_and_none_at_the_next_start(
    start_server: StartServer, tmp_path: Path
) -> None:
    world = await a_world(start_server, tmp_path)
    async with running(world.settings) as run:
        await world.is_caught_up(run)
    with world.target.client() as client:
        client.hset(KEY, mapping={"at:1:7": 1, "at:1:9": 1})
    for expected in (Ways(full=1, partial=0, reconnects=0), Ways(full=0, partial=1, reconnects=0)):
        async with running(world.settings) as run:
            await world.is_caught_up(run)
        assert ways_of(run) == expected
        assert await world.is_equal_and_clean()
