"""Waiting for something to become true: with a deadline, never by a sleep of a guessed length."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

POLL_SECONDS = 0.005
BLOCKING_POLL_SECONDS = 0.02
DEADLINE_SECONDS, BLOCKING_DEADLINE_SECONDS = 30.0, 60.0


async def until(
    is_true: Callable[[], Any],
    what: str,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    running: asyncio.Future[Any] | None = None,
) -> Any:
    """Wait until `is_true()` (or what it awaits) is, and return it.

    running: a task that must not fail before; its error is raised. Fails with `what` at the deadline.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        answer = is_true()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        if running is not None and running.done():
            running.result()
            raise AssertionError(f"it ended before {what}")
        assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {what}"
        await asyncio.sleep(POLL_SECONDS)


def holds(
    is_true: Callable[[], Any], what: str, deadline_seconds: float = BLOCKING_DEADLINE_SECONDS
) -> Any:
    """Wait until `is_true()`, in a test or thread that may block, and return it."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        answer = is_true()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {what}"
        time.sleep(BLOCKING_POLL_SECONDS)
