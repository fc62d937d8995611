"""Tasks that run beside a line's main work and end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

CANCEL_AGAIN_SECONDS = 0.2


class Background:
    """Starts tasks, and ends them for sure.

    A TaskGroup cancels once and then waits; a cancellation that gets lost on the way (asyncio.wait_for of
    Python 3.11, through which redis-py sends, can swallow one) would make it wait for ever.
    on_failure: called with the error of a task that failed; such a failure is a bug.
    """

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` until it ends or `end` is called."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    async def end(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks), timeout=CANCEL_AGAIN_SECONDS)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)
