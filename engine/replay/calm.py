"""When to ask the source about what is owed to a line that falls behind again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# Behind for a moment, caught up for a moment: most of what is asked for then is soon owed again.
CALM_SECONDS = 0.5
# So often it is looked whether the pipeline has run empty by itself.
LOOK_SECONDS = 0.05


class Calm:
    """Lets a question be asked when little is on its way, or the line has not been behind for CALM_SECONDS; else once in so many.

    wake: called when it is worth asking here again.
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

    def is_put_off(self, *, is_full: bool) -> bool:
        """Whether a question has to wait; then `wake` is called soon. is_full: much is on its way to the target."""
        seconds = min(self._behind_at, self._asked_at) + CALM_SECONDS - time.monotonic()
        self.close()
        if seconds <= 0.0 or not is_full:
            return False
        soon = min(seconds, LOOK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(soon, self._wake)
        return True

    def close(self) -> None:
        """Do not call `wake`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
