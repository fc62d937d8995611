"""The folder of a task that cannot be used, and a target that is away when the task is started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.errors import LedgerError, TargetUnreachable
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from engine.supervision.task import Task
from tests.control.live_line import Line
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import compared, offset_of
from tests.live.world import make_world

pytestmark = pytest.mark.live


async def test_a_file_in_place_of_the_tasks_folder_fails_the_task(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    (tmp_path / "t1").write_text("in the way")
    task = Task(
        make_settings(
            source.endpoint, target.endpoint, spool=SpoolSettings(directory=tmp_path / "t1")
        )
    )
    with pytest.raises(LedgerError, match="t1"):
        await task.run()
    assert task.state is TaskState.FAILED
    assert task.status().state == "failed"
    assert str(tmp_path / "t1") in str(task.status().error)
    with target.client() as client:
        assert client.dbsize() == 0


def test_the_command_line_says_which_folder_and_what_to_do(
    start_server: StartServer, tmp_path: Path
) -> None:
    line = Line(tmp_path, start_server("redis-8.2"), start_server("redis-8.2"))
    line.folder.write_text("in the way")
    ended = line.run("sync", line.source.url, line.target.url, "--task-id", "t1")
    assert ended.returncode == 3, ended.stderr
    assert str(line.folder) in "".join(ended.stderr.split("\n"))


async def test_the_ledgers_folder_that_is_gone_ends_the_task_and_the_next_run_goes_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    world = await make_world(start_server, keys=100, spool=SpoolSettings(directory=tmp_path / "t1"))
    ledger, aside = tmp_path / "t1" / "ledger-0", tmp_path / "aside"
    async with running(world.settings) as run:
        await run.reaches_offset(offset_of(world.source))
        ledger.rename(aside)
        with world.source.client() as client:
            client.swapdb(2, 3)
            client.set("behind", 1)
        with pytest.raises(LedgerError, match="ledger-0") as raised:
            async with asyncio.timeout(15):
                await run.future
        assert "the same command then goes on" in raised.value.hint
    with world.target.client() as client:
        assert not client.exists("behind")
    aside.rename(ledger)
    async with running(world.settings) as run:
        await run.reaches_offset(offset_of(world.source))
        status = run.task.status()
    assert (status.full_resyncs, status.partial_resyncs) == (0, 1)
    found = await compared(world.source, world.target)
    assert found.is_equal, str(found)


async def test_a_task_that_has_run_waits_for_a_target_that_is_away(
    start_server: StartServer, tmp_path: Path
) -> None:
    world = await make_world(start_server, keys=100, spool=SpoolSettings(directory=tmp_path / "t1"))
    async with running(world.settings) as run:
        await run.reaches_offset(offset_of(world.source))
    with world.target.client() as client:
        client.save()
    world.target.kill()
    async with running(world.settings) as run:
        await run.reaches(
            lambda: run.task.status().retries.get("TargetUnreachable", 0) > 1, "it waits"
        )
        world.target.start()
        await run.reaches_offset(offset_of(world.source))
        assert run.task.status().full_resyncs == 0
    assert await world.is_equal_and_clean()


async def test_one_that_has_never_run_does_not_wait(
    start_server: StartServer, tmp_path: Path
) -> None:
    world = await make_world(start_server, keys=10, spool=SpoolSettings(directory=tmp_path / "t1"))
    world.target.kill()
    with pytest.raises(TargetUnreachable):
        await Task(world.settings).run()
