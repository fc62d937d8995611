"""The steps in which batches gather under load: one clock for all lanes, for a timer of each lane's own wakes the process for each shard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from engine.background import Waiters

STEP_SECONDS = 0.01
LOAD_BYTES = 64 * 1024


class GatherSteps:
    """added_bytes: tells what has come in all. The clock runs while somebody waits."""

    def __init__(self, added_bytes: Callable[[], int]) -> None:
        self._added_bytes = added_bytes
        self._waiters = Waiters()
        self._timer: asyncio.TimerHandle | None = None
        self._began_at = 0
        self._began_seconds = 0.0
        self._is_loaded = True

    async def pass_one(self) -> bool:
        """Wait for the end of the step; whether so much came in all of it that the next one is worth waiting for."""
        if self._timer is None:
            self._began_at, self._began_seconds = self._added_bytes(), time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(STEP_SECONDS, self._end)
        await self._waiters.wait()
        return self._is_loaded

    def _end(self) -> None:
        self._timer = None
        # A step in which the process was busy elsewhere tells nothing.
        is_late = time.monotonic() - self._began_seconds >= 2 * STEP_SECONDS
        self._is_loaded = is_late or self._added_bytes() - self._began_at >= LOAD_BYTES
        self._waiters.wake()

    def close(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
