"""A task's events as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from engine.service.journal import Journal
from engine.service.record import TaskRecord

KEEP_ALIVE_SECONDS = 15.0


async def event_lines(
    journal: Journal, record: TaskRecord, *, is_gone: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The task's status first, then what happens, until the reader or the task is gone."""
    with journal.listening(record.task_id) as subscription:
        yield _event("status", {"status": str(record.status)})
        while not await is_gone():
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    found = await subscription.take()
            except TimeoutError:
                yield b": still there\n\n"
                continue
            if found is None:
                return
            yield _event(*found)


def _event(kind: str, facts: Mapping[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(facts, default=str)}\n\n".encode()
