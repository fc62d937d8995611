"""Looks, besides what replies tell, whether what the delivery writes to is still a primary.

A primary that hangs does not say that it was replaced, and where nothing is sent, nobody says so: the promoted one may lack what
was confirmed all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from engine.background import end_tasks
from engine.cluster.sentinel import ask_primary
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetLinkLost

log = structlog.get_logger("engine.replay")

# No reply for so long: others are asked whether the node is still a primary.
SILENCE_SECONDS = 0.5
# With nothing to send so long between two questions.
IDLE_SECONDS = 2.0


class PrimaryWatch:
    """Asks the others when replies are owed for too long, and now and then while nothing is under way.

    silent: addresses of nodes that owe replies and have sent none for so many seconds. is_idle: whether everything sent is on the target.
    ask: asks, with those that are silent; raises TargetLinkLost where a primary was replaced: it goes to on_failed, and ends the stay.
    """

    def __init__(
        self,
        *,
        silent: Callable[[float], Sequence[str]],
        is_idle: Callable[[], bool],
        ask: Callable[[Sequence[str]], Awaitable[None]],
        on_failed: Callable[[EngineError], None],
    ) -> None:
        self._silent = silent
        self._is_idle = is_idle
        self._ask = ask
        self._on_failed = on_failed
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = time.monotonic()
        self._told = ""

    def look(self) -> None:
        """To be called about once a second."""
        silent = self._silent(SILENCE_SECONDS)
        is_due = self._is_idle() and time.monotonic() - self._asked_at >= IDLE_SECONDS
        if (silent or is_due) and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._look(silent), name="watch-primaries")

    async def _look(self, silent: Sequence[str]) -> None:
        why = ""
        try:
            await self._ask(silent)
        except TargetLinkLost as error:
            self._on_failed(error)
        except EngineError as error:
            why = str(error)
            if why != self._told:
                log.info("target.primary_not_known", why=why, silent=list(silent))
        self._told = why
        self._asked_at = time.monotonic()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            await end_tasks(self._asking)


async def refuse_replaced(sentinels: Endpoint, primary: Endpoint) -> None:
    """Ask the Sentinels of the target who is the primary now.

    Raises:
        TargetLinkLost: another one. As `ask_primary`: there is no telling.
    """
    now = await ask_primary(sentinels, role="target")
    if now.address != primary.address:
        raise TargetLinkLost(
            f"the target {primary.address} was replaced: the Sentinels name {now.address} as the primary"
        )
