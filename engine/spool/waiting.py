"""One reader's wait, the end, and how long what comes may have waited for it."""

from __future__ import annotations

import asyncio
import time

# A wait longer than this has seen the event loop look at its sockets at least once.
POLL_SECONDS = 0.002


class Waiting:
    """What a queue is to its waiting reader. At most one waits at a time."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._is_ended = False
        self._busy_from = 0.0
        self._busy_until = 0.0

    def end(self, error: BaseException | None = None) -> None:
        """No more will be put. The reader gets what is left, then `error` (or the end)."""
        if not self._is_ended:
            self._is_ended = True
            self._error = error
        self.wake()

    def reopen(self) -> None:
        """Take back the end: another link is there."""
        self._is_ended = False
        self._error = None

    def wake(self) -> None:
        """Let `wait` return so that its caller looks at the world again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def delay_bound_seconds(self, now: float, heard_at: float) -> float:
        """How long bytes that are read at `now` may have waited because this process was busy.

        heard_at: monotonic time of the read before. A reader that was waiting here all the while leaves the
        event loop free, so bytes are then taken as they come.
        """
        if self._waiter is None:
            return now - heard_at
        return now - self._busy_from if now - self._busy_until < POLL_SECONDS else 0.0

    async def _wait_for_wake(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._busy_until = time.monotonic()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._busy_from = time.monotonic()
