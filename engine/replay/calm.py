"""When to ask the source about what is owed to a line that falls behind again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# Behind for a moment, caught up for a moment: a question costs most then, for the pipeline runs empty before it.
CALM_SECONDS = 0.5


class Calm:
    """Lets a question be asked when the line has not been behind for CALM_SECONDS, and once in so many at most until then.

    wake: called when a question that was put off may be asked.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._behind_at = self._asked_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def note_behind(self) -> None:
        """The line is behind."""
        self._behind_at = time.monotonic()

    def note_asked(self) -> None:
        """A question is asked now."""
        self._asked_at = time.monotonic()

    def is_put_off(self) -> bool:
        """Whether a question has to wait; then `wake` is called when it need not any more."""
        seconds = min(self._behind_at, self._asked_at) + CALM_SECONDS - time.monotonic()
        self.close()
        if seconds <= 0.0:
            return False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)
        return True

    def close(self) -> None:
        """Do not call `wake`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
