"""Ending asyncio tasks for sure."""

from __future__ import annotations

import asyncio
from typing import Any

CANCEL_AGAIN_SECONDS = 0.2


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until they have ended; their results and errors are dropped.

    A cancellation can get lost on the way (asyncio.wait_for of Python 3.11, through which redis-py sends, swallows one
    that comes in the moment of success or failure), so it is repeated.
    """
    ours = [task for task in tasks if task is not None]
    while left := [task for task in ours if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)
    for task in ours:
        if not task.cancelled():
            task.exception()  # seen: not to be reported as never retrieved


class Waiters:
    """Those who wait until something has changed, whatever it is. Waking them makes no task of its own, unlike a Condition."""

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        await future

    def wake(self) -> None:
        """Let all go on who wait now."""
        futures, self._futures = self._futures, []
        for it in futures:
            if not it.done():  # else it was given up
                it.set_result(None)
