"""Looks, besides what replies tell, whether the cluster is still as the delivery knows it.

A primary that hangs does not say that it was replaced, and where nothing is sent, nobody says so: the promoted one may lack what
was confirmed all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from engine.background import end_tasks
from engine.errors import EngineError, TargetLinkLost
from engine.replay.held_slots import HeldSlots
from engine.replay.shard_lanes import ShardLanes

log = structlog.get_logger("engine.replay")

# No reply for so long: the others are asked whether the node is still a primary.
SILENCE_SECONDS = 0.5
# With nothing to send so long between two questions.
IDLE_SECONDS = 2.0


class MapWatch:
    """Asks for the map when a shard owes replies for too long, and now and then while nothing is under way.

    is_idle: whether everything sent is on the target. on_failed: called when a primary was replaced, which ends the stay.
    """

    def __init__(
        self,
        lanes: ShardLanes,
        held: HeldSlots,
        *,
        is_idle: Callable[[], bool],
        on_failed: Callable[[EngineError], None],
    ) -> None:
        self._lanes = lanes
        self._held = held
        self._is_idle = is_idle
        self._on_failed = on_failed
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = time.monotonic()
        self._told = ""

    def look(self) -> None:
        """To be called about once a second."""
        silent = self._lanes.silent(SILENCE_SECONDS)
        is_due = self._is_idle() and time.monotonic() - self._asked_at >= IDLE_SECONDS
        if (silent or is_due) and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(silent), name="ask-for-the-map")

    async def _ask(self, silent: Sequence[str]) -> None:
        why = ""
        try:
            await self._held.refresh(silent)
        except TargetLinkLost as error:
            self._on_failed(error)
        except EngineError as error:
            why = str(error)
            if why != self._told:
                log.info("cluster.map_not_known", why=why, silent=list(silent))
        self._told = why
        self._asked_at = time.monotonic()

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            await end_tasks(self._asking)
