"""What PID 1 of a container owes the others: to collect processes that ended after the one that started them."""

from __future__ import annotations

import asyncio
import os

PERIOD_SECONDS = 1.0


async def collect_orphans(*, period_seconds: float = PERIOD_SECONDS) -> None:
    """Look for one every `period_seconds`, until cancelled.

    The event loop collects our own children as soon as they have ended. So who is still there at a second look is nobody's.
    Source: waitid(2), WNOWAIT leaves it as it is.
    """
    seen = 0
    while True:
        await asyncio.sleep(period_seconds)
        found = _ended()
        if found and found == seen:
            _collect(found)
            found = _ended()
        seen = found


def _ended() -> int:
    """The id of a child that has ended and was not collected; 0 if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 0 if found is None else found.si_pid


def _collect(pid: int) -> None:
    """It has ended: this does not wait."""
    os.waitpid(pid, os.WNOHANG)
