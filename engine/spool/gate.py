"""Whether the link may read: tells the current one when that changes."""

from __future__ import annotations

from collections.abc import Callable


def _nobody() -> None:
    """Stands for a link that is not there yet."""


class Gate:
    """Open or shut. shuts: how often it was shut."""

    def __init__(self) -> None:
        self._pause: Callable[[], None] = _nobody
        self._resume: Callable[[], None] = _nobody
        self.is_shut = False
        self.shuts = 0

    def attach(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Tell these from now on; `pause` at once if the gate is shut."""
        self._pause, self._resume = pause, resume
        if self.is_shut:
            pause()

    def shut(self) -> None:
        """The link must not read."""
        if not self.is_shut:
            self.is_shut = True
            self.shuts += 1
            self._pause()

    def open(self) -> None:
        """The link may read."""
        if self.is_shut:
            self.is_shut = False
            self._resume()
