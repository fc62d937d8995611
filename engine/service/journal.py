"""The tasks' log rows: taken from the engine's own log lines, kept in the store, shown live to subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from engine.service.record import LogLevel, LogRow, storable
from engine.service.store import Store
from engine.service.write_behind import write_behind

MESSAGE_LIMIT = 1024  # characters
WAITING_ROWS = 10_000  # that the store has not taken yet; beyond it the oldest are dropped
BATCH_ROWS = 500
SUBSCRIBER_EVENTS = 256  # that a slow reader may be behind; beyond it the oldest are dropped

_LEVELS = {
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFO,
    "warning": LogLevel.WARN,
    "error": LogLevel.ERROR,
    "critical": LogLevel.ERROR,
}
_NOT_FACTS = frozenset({"event", "level", "ts", "logger", "task", "exception", "exc_info"})


class Subscription:
    """What one reader of a task's events has still to see."""

    def __init__(self) -> None:
        self._events: deque[tuple[str, Mapping[str, Any]]] = deque(maxlen=SUBSCRIBER_EVENTS)
        self._wake = asyncio.Event()
        self.is_closed = False

    def put(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Add an event."""
        self._events.append((kind, facts))
        self._wake.set()

    def close(self) -> None:
        """No more events will come."""
        self.is_closed = True
        self._wake.set()

    async def take(self) -> tuple[str, Mapping[str, Any]] | None:
        """The next event; None when there will be no more."""
        while not self._events:
            if self.is_closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()


class Journal:
    """Rows on their way to the store, and who listens."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[LogRow] = deque(maxlen=WAITING_ROWS)
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._subscriptions: dict[str, set[Subscription]] = {}

    # ---- taking

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one log event of structlog; without a `task` it is none of ours. Any thread."""
        task_id = event.get("task")
        if isinstance(task_id, str):
            row = row_of(task_id, event)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the store with it
                self._loop.call_soon_threadsafe(self._add, row)

    def _add(self, row: LogRow) -> None:
        self._waiting.append(row)
        self._wake.set()
        self.publish(row.task_id, "log", shown_row(row))

    async def write(self) -> None:
        """Bring rows to the store, for ever; cancelled at the end."""
        await write_behind(self._wake, self.flush, failed="store.logs_not_written")

    async def flush(self) -> None:
        """Bring all rows to the store that are there now.

        Raises:
            StoreFailed: it did not take them; they are kept.
        """
        async with self._writing:
            while self._waiting:
                batch = [self._waiting[at] for at in range(min(BATCH_ROWS, len(self._waiting)))]
                await self._store.add_logs(batch)
                for row in batch:
                    # Unless the deque has overflown meanwhile, the batch is still its head.
                    if self._waiting and self._waiting[0] is row:
                        self._waiting.popleft()

    # ---- listening

    def publish(self, task_id: str, kind: str, facts: Mapping[str, Any]) -> None:
        """Show an event to those who listen to the task."""
        for subscription in self._subscriptions.get(task_id, ()):
            subscription.put(kind, facts)

    @contextlib.contextmanager
    def listening(self, task_id: str) -> Iterator[Subscription]:
        """Listen to a task."""
        subscription = Subscription()
        self._subscriptions.setdefault(task_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            listeners = self._subscriptions.get(task_id)
            if listeners is not None:
                listeners.discard(subscription)
                if not listeners:
                    del self._subscriptions[task_id]

    def close_listeners(self, task_id: str | None = None) -> None:
        """End the streams of one task, or of all."""
        tasks = list(self._subscriptions) if task_id is None else [task_id]
        for name in tasks:
            for subscription in list(self._subscriptions.get(name, ())):
                subscription.close()


def row_of(task_id: str, event: Mapping[str, Any]) -> LogRow:
    """Make a row of a log event: its name is the code, its facts the keywords and the rest of the message."""
    facts = [
        f"{name}={_text(value)}"
        for name, value in event.items()
        if name not in _NOT_FACTS and value is not None
    ]
    code = str(event.get("event", ""))
    return LogRow(
        task_id=task_id,
        created_at=datetime.now(UTC),
        level=_LEVELS.get(str(event.get("level")), LogLevel.INFO),
        message=" ".join([code, *facts])[:MESSAGE_LIMIT],
        code=code[:128],
        keywords=tuple(it[:MESSAGE_LIMIT] for it in facts),
    )


def shown_row(row: LogRow) -> dict[str, Any]:
    """A row as the API shows it."""
    return {
        "created_at": shown_time(row.created_at),
        "log_level": row.level.value,
        "message": row.message,
        "log_code": row.code,
        "keyword": list(row.keywords),
    }


def shown_time(time: datetime) -> str:
    """ISO 8601 in UTC, with milliseconds and a Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, default=str, ensure_ascii=True)
