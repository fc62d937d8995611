"""What a run shows of itself while it goes on: objects, lines, bars, or nothing.

JSON goes to stdout, everything for people to stderr, so that stdout can always be piped.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol

from engine.control.choices import ProgressMode
from engine.control.wording import Pace, progress_line
from engine.supervision.status import TaskStatus
from engine.supervision.totals import LineStatus

# The stable contract of `--progress json`: these names, in this order, before any other.
CONTRACT_NAMES = (
    "ts",
    "task_id",
    "state",
    "phase",
    "full_migration_progress",
    "source_offset",
    "read_offset",
    "spooled_offset",
    "applied_offset",
    "lag_bytes",
    "lag_seconds",
    "keys_applied",
    "commands_applied",
    "bytes_applied",
    "bytes_per_second",
    "spool_bytes",
    "reconnects",
    "full_resyncs",
    "partial_resyncs",
    "errors",
    "error",
)
_OTHER_NAMES = tuple(field.name for field in fields(TaskStatus) if field.name not in CONTRACT_NAMES)

PLAIN_INTERVAL_SECONDS = 5.0


class Reporter(Protocol):
    """Shows statuses. Called by one thread, about twice a second; may block, may raise OSError."""

    def show(self, status: TaskStatus) -> None:
        """Take the newest status. A new state must be shown, the rest is the reporter's choice."""

    def close(self, status: TaskStatus) -> None:
        """Show the last status and give the terminal back."""


def status_object(status: TaskStatus) -> dict[str, Any]:
    """Make the object of `--progress json`: the contract's names first, then what may grow."""
    return {name: _plain(getattr(status, name)) for name in (*CONTRACT_NAMES, *_OTHER_NAMES)}


def _plain(value: object) -> object:
    if isinstance(value, float):
        # JSON has no infinity and no NaN; microseconds are finer than anything measured.
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_plain(it) for it in value]
    if isinstance(value, LineStatus):
        return {it.name: _plain(getattr(value, it.name)) for it in fields(value)}
    return value


class JsonLines:
    """One object a line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def show(self, status: TaskStatus) -> None:
        """Write the status."""
        self._write(json.dumps(status_object(status), separators=(",", ":")) + "\n")

    def close(self, status: TaskStatus) -> None:
        """Write the last status."""
        self.show(status)


class PlainLines:
    """One line every few seconds and one at each change of state."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._pace = Pace()
        self._state = ""
        self._written_at = -math.inf

    def show(self, status: TaskStatus) -> None:
        """Write a line if it is time or if the state is new."""
        now = self._clock()
        if status.state == self._state and now - self._written_at < PLAIN_INTERVAL_SECONDS:
            return
        self._pace.take(status)
        self._state, self._written_at = status.state, now
        stamp = time.strftime("%H:%M:%S", time.localtime(status.ts))
        self._write(f"{stamp} {progress_line(status, self._pace)}\n")

    def close(self, status: TaskStatus) -> None:
        """Write the last state, unless it has just been written."""
        if status.state != self._state:
            self.show(status)


class Silent:
    """`--progress none`."""

    def show(self, status: TaskStatus) -> None:
        """Show nothing."""

    def close(self, status: TaskStatus) -> None:
        """Show nothing."""


def make_reporter(mode: ProgressMode) -> Reporter:
    """Choose by mode, and for `auto` by whether stderr is a terminal that can draw."""
    if mode is ProgressMode.JSON:
        return JsonLines(_writer(1))
    if mode is ProgressMode.NONE:
        return Silent()
    if draws_bars(mode):
        from engine.control.progress_bars import Bars  # rich costs 8 MB and 200 ms

        return Bars()
    return PlainLines(_writer(2))


def draws_bars(mode: ProgressMode) -> bool:
    """Whether `mode` means bars here: on a terminal that can draw."""
    can_draw = sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
    return mode is ProgressMode.AUTO and can_draw


def _writer(descriptor: int) -> Callable[[str], None]:
    """Write past Python's buffers: nothing is left in them that could fail at exit."""

    def write(text: str) -> None:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write
