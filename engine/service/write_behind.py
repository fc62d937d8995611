"""Writing to the store behind the caller's back, again and again while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from engine.service.refusals import StoreFailed

log = structlog.get_logger("engine.service")

RETRY_SECONDS = 1.0


async def write_behind(
    wake: asyncio.Event, flush: Callable[[], Awaitable[None]], *, failed: str
) -> None:
    """Run `flush` whenever `wake` is set, for ever; cancelled at the end. failed: the log's event when the store refuses."""
    while True:
        await wake.wait()
        wake.clear()
        try:
            await flush()
        except StoreFailed as error:
            log.warning(failed, error=str(error), again_seconds=RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
            wake.set()
