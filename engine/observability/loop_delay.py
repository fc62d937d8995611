"""How late the event loop is: a probe sleeps again and again, and counts by how much it overslept."""

from __future__ import annotations

import asyncio
import time

from engine.stats import LatencyHistogram

PROBE_SECONDS = 0.1


async def watch_loop_delay(delay: LatencyHistogram) -> None:
    """Probe until cancelled; a loop that is held up for a second counts once, with a second."""
    while True:
        asked = time.monotonic()
        await asyncio.sleep(PROBE_SECONDS)
        delay.add(max(0.0, time.monotonic() - asked - PROBE_SECONDS))
