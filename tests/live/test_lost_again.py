"""A connection that is lost again before what the first loss cost has been made good."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.live.proxied_world import proxied_world
from tests.live.running_task import Run, running
from tests.live.world import World, kill_target_link, links_of
from tests.servers.fault_proxy import Way

if TYPE_CHECKING:
    from tests.fix_servers import StartServer

pytestmark = pytest.mark.live

VALUES = 400
VALUE_BYTES = 32 * 1024
SLOW_BYTES_PER_SECOND = 256 * 1024
WINDOW_BYTES = 3 * 1024 * 1024


def fill_with_large_values(world: World) -> None:
    rng = random.Random(1)
    with world.source.client() as client:
        for number in range(VALUES):
            client.set(f"large:{number}", rng.randbytes(VALUE_BYTES))


def unconfirmed_bytes(run: Run) -> int:
    status = run.task.status()
    return status.snapshot_bytes_read - status.bytes_applied


async def is_sending_again(run: Run, world: World) -> None:
    before = run.task.status().keys_applied
    await run.reaches(lambda: links_of(world.target), "a new connection")
    await run.reaches(lambda: run.task.status().keys_applied > before, "some is sent again")


async def test_blocks_of_the_snapshot_are_sent_again_until_the_target_has_them(
    start_server: StartServer,
) -> None:
    async with proxied_world(start_server, keys=0) as it:
        fill_with_large_values(it.world)
        async with running(it.world.settings) as run:
            run.task.set_bandwidth_limit(SLOW_BYTES_PER_SECOND)
            await run.reaches(lambda: run.task.status().keys_applied, "the snapshot")
            it.target.stall(Way.TO_SERVER)
            run.task.set_bandwidth_limit(None)
            await run.reaches(lambda: unconfirmed_bytes(run) > WINDOW_BYTES, "much is on its way")
            run.task.set_bandwidth_limit(SLOW_BYTES_PER_SECOND)
            it.target.cut()
            it.target.restore()
            for _ in range(2):  # each in the middle of sending again
                await is_sending_again(run, it.world)
                kill_target_link(it.world.target)
                await run.reaches(lambda: not links_of(it.world.target), "the next loss")
            run.task.set_bandwidth_limit(None)
            await it.world.is_caught_up(run)
            assert run.task.status().full_resyncs == 1
        assert await it.world.is_equal_and_clean()
