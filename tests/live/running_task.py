"""A migration inside the test's own event loop, and the proof that it leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from engine.endpoint import Endpoint
from engine.settings import SourceSettings, SpoolSettings, TargetSettings, TaskSettings
from engine.stats import ReaderStats
from engine.supervision.states import TaskState
from engine.supervision.task import Task
from tests.conditions import until

MIB = 1024 * 1024


def make_settings(source: Endpoint, target: Endpoint, **changes: Any) -> TaskSettings:
    fields: dict[str, Any] = {
        "task_id": "t1",
        "source": source,
        "target": target,
        "spool": SpoolSettings(memory_bytes=4 * MIB),
        "source_link": SourceSettings(connect_timeout_seconds=5, handshake_timeout_seconds=20),
        "target_link": TargetSettings(connect_timeout_seconds=5, reply_timeout_seconds=20),
    }
    return TaskSettings(**(fields | changes))


class Run:
    """A task on its way. `future` is its `run`."""

    def __init__(self, settings: TaskSettings, reader: ReaderStats | None = None) -> None:
        self.task = Task(settings, reader=reader)
        self.states: list[TaskState] = []
        self.task.on_state_change(self.states.append)
        self.future = asyncio.create_task(self.task.run(), name="task under test")

    async def reaches(self, is_true: Any, what: str, **options: Any) -> Any:
        """Wait for a condition; an error that ends the task before is raised."""
        return await until(is_true, what, running=self.future, **options)

    async def reaches_offset(self, offset: int, *, is_settled: bool = True) -> None:
        """Wait until the snapshot and the stream up to `offset` are applied, and nothing is owed by the source."""

        def is_there() -> bool:
            status = self.task.status()
            is_applied = self.task.state is TaskState.STREAM and status.applied_offset >= offset
            is_owing = status.expiries_owed or status.keys_in_doubt > 0
            return is_applied and not (is_settled and is_owing)

        await self.reaches(is_there, f"offset {offset} is applied")

    async def stop(self) -> None:
        """Stop gracefully and wait for the end."""
        self.task.request_stop()
        async with asyncio.timeout(15):
            await self.future


@asynccontextmanager
async def running(settings: TaskSettings, reader: ReaderStats | None = None) -> AsyncIterator[Run]:
    """Run a task; on the way out stop it and check that no asyncio task of it is left."""
    before = asyncio.all_tasks()
    run = Run(settings, reader)
    try:
        yield run
        if not run.future.done():
            await run.stop()
    finally:
        if not run.future.done():
            run.future.cancel()
        await asyncio.wait({run.future})
    left = {it for it in asyncio.all_tasks() - before if not it.done()}
    names = {it.get_name() for it in left}
    assert not names & {"beat", "watch-source", "task under test"}, names


async def migrate(settings: TaskSettings) -> Task:
    """Run a task to its own end."""
    async with running(settings) as run:
        async with asyncio.timeout(60):
            await run.future
        return run.task
