"""The demo's writer as a thread beside the migration under test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from engine.demo.writer import Workload, WorkloadReport
from engine.endpoint import Endpoint
from tests.conditions import until


class Writing:
    """A workload on its way."""

    def __init__(self, endpoint: Endpoint, **options: Any) -> None:
        self._workload = Workload(endpoint, **options)
        self._stop = threading.Event()
        self._future = asyncio.create_task(asyncio.to_thread(self._workload.run, self._stop))

    @property
    def commands(self) -> int:
        return self._workload.report.commands

    async def has_written(self, commands: int) -> None:
        """Wait for `commands` more than now."""
        wanted = self.commands + commands
        await until(
            lambda: self.commands >= wanted, f"{wanted} commands written", running=self._future
        )

    async def stop(self) -> WorkloadReport:
        """Everything written has been answered on return."""
        self._stop.set()
        return await self._future


@asynccontextmanager
async def writing(endpoint: Endpoint, **options: Any) -> AsyncIterator[Writing]:
    made = Writing(endpoint, **options)
    try:
        yield made
    finally:
        await made.stop()
