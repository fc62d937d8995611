"""A source that begins another history while the task waits for something else."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from engine.replay.brought import Brought
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.live.running_task import running
from tests.live.sides import compared, keys_of_ours
from tests.live.world import kill_replica, make_world

if TYPE_CHECKING:
    from pathlib import Path

    from engine.replay.target_session import TargetSession
    from tests.fix_servers import StartServer

pytestmark = pytest.mark.live

SLOW_BYTES_PER_SECOND = 64 * 1024


async def test_a_new_snapshot_that_begins_while_leftovers_are_removed_is_taken(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(start_server, source_config={"enable-debug-command": "yes"})
    clean = Brought.after_snapshot
    calls = 0

    async def clean_slowly(brought: Brought, session: TargetSession, offset: int) -> None:
        nonlocal calls
        calls += 1
        await clean(brought, session, offset)
        if calls == 1:
            with world.source.client() as client:
                client.set("written", "meanwhile")
                client.execute_command("DEBUG", "CHANGE-REPL-ID")
            kill_replica(world.source)
            await run.reaches(lambda: run.task.status().full_resyncs == 2, "the next snapshot")

    monkeypatch.setattr(Brought, "after_snapshot", clean_slowly)
    async with running(world.settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        await world.is_caught_up(run)
    assert calls == 2
    assert await world.is_equal_and_clean()


async def test_the_goal_of_exit_when_synced_is_that_of_the_newest_history(
    start_server: StartServer, tmp_path: Path
) -> None:
    world = await make_world(
        start_server,
        source_config={"save": ""},
        keys=0,
        exit_when_synced=True,
        spool=SpoolSettings(directory=tmp_path / "t1"),
    )
    rng = random.Random(1)
    with world.source.client() as client:
        client.set("snapshot", rng.randbytes(2 * SLOW_BYTES_PER_SECOND))
        async with running(world.settings) as run:
            run.task.set_bandwidth_limit(SLOW_BYTES_PER_SECOND)
            await run.reaches(lambda: run.task.state is TaskState.SNAPSHOT, "the snapshot")
            for number in range(100):
                client.set(f"stream:{number}", rng.randbytes(SLOW_BYTES_PER_SECOND))
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await run.reaches(lambda: run.task.status().commands_applied, "its first commands")
            world.source.kill()
            world.source.start()
            with world.source.client() as anew:
                anew.set("another", "history")
            await run.reaches(lambda: run.task.status().full_resyncs == 2, "the next snapshot")
            run.task.set_bandwidth_limit(None)
            async with asyncio.timeout(20):
                await run.future
    assert run.task.state is TaskState.DONE
    assert (await compared(world.source, world.target)).is_equal
    assert len(keys_of_ours(world.target)) == 1
