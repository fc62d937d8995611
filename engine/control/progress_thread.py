"""Between a run and its reporter: a reader that is slow or gone must not hold the migration."""

from __future__ import annotations

import contextvars
import threading
from collections import deque

import structlog

from engine.control.progress import Reporter
from engine.supervision.status import TaskStatus

log = structlog.get_logger("engine.control.progress")

# Changes of state waiting for a reader; the oldest are dropped. A task in trouble makes a few a
# second.
BACKLOG_LIMIT = 1000


class ProgressThread:
    """Hands statuses to a reporter, in order; of those that came while it was busy only the newest.

    Statuses of a change of state are never skipped (up to BACKLOG_LIMIT of them).
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._waiting: deque[tuple[TaskStatus, bool]] = deque(maxlen=BACKLOG_LIMIT)
        self._changed = threading.Condition()
        self._last: TaskStatus | None = None
        # A daemon: a write to a full pipe cannot be interrupted and must not keep the process.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name="progress", daemon=True
        )
        self._thread.start()

    def offer(self, status: TaskStatus, *, is_change: bool = False) -> None:
        """Take a status. Never blocks."""
        with self._changed:
            if self._waiting and not self._waiting[-1][1]:
                self._waiting.pop()
            self._waiting.append((status, is_change))
            self._changed.notify()

    def close(self, last: TaskStatus, timeout_seconds: float) -> bool:
        """Show the last status and end. Returns False if the reader did not take it in time."""
        with self._changed:
            self._last = last
            self._changed.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                status = self._next()
                if status is self._last:
                    self._reporter.close(status)
                    return
                self._reporter.show(status)
        except (OSError, ValueError) as error:
            # The reader went away (BrokenPipeError), the disk under a redirected stdout is full, or
            # the stream was closed. The migration matters more: it goes on unseen.
            log.warning("progress.lost", reason=str(error))

    def _next(self) -> TaskStatus:
        """Wait for the next status to show: the last one when all others have been."""
        with self._changed:
            while True:
                if self._waiting:
                    return self._waiting.popleft()[0]
                if self._last is not None:
                    return self._last
                self._changed.wait()
