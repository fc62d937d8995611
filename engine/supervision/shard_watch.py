"""Looks whether slots of a source cluster move while its lines run, and once more when they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from engine.cluster.primaries import ask_primaries
from engine.cluster.topology import ClusterMap, Shard
from engine.endpoint import Endpoint
from engine.errors import SourceAuthError
from engine.supervision.planning import SourceShards

log = structlog.get_logger("engine.task")

WATCH_SECONDS = 1.0
LAST_LOOK_SECONDS = 2.0  # for each of two rounds at most; a graceful stop may take ten


class ShardWatch:
    """Asks the primaries, also where replicas are read from. source: the side's URL."""

    def __init__(self, source: Endpoint, shards: SourceShards) -> None:
        self._source = source
        self._shards = shards
        self._refused: set[str] = set()

    async def run(self) -> None:
        """Look once a second.

        Raises:
            SourceRefused: slots move.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            await self._look(self._primaries(), WATCH_SECONDS)

    async def look_last(self) -> None:
        """Once more behind the last snapshot and the last command: what has moved since `run` looked is found here.

        A primary that does not answer makes no failure of a migration that is complete: the others know of every move
        that is finished, and of one that is not, its other end. It is named in a warning.

        Raises:
            SourceRefused: slots have moved, or do so now.
        """
        asked = self._primaries()
        unknown = await self._look(asked, LAST_LOOK_SECONDS)
        before = {it.primary.node_id for it in asked}
        promoted = [it for it in self._primaries() if it.primary.node_id not in before]
        if promoted:
            # The others have told who leads these shards now.
            for shard in asked:
                if any(it.ranges == shard.ranges for it in promoted):
                    unknown.pop(shard.primary.node_id, None)
            unknown |= await self._look(promoted, LAST_LOOK_SECONDS)
        if unknown:
            log.warning(
                "source.moves_not_checked",
                unknown=sorted(unknown.values()),
                message="whether slots of the source moved in the last moments could not be asked everywhere",
                remedy="if somebody was moving slots just then, migrate anew; else nothing",
            )

    def _primaries(self) -> Sequence[Shard]:
        latest = self._shards.latest
        return () if latest is None else latest.shards

    async def _look(self, asked: Sequence[Shard], timeout_seconds: float) -> dict[str, str]:
        """Compare what they say with the task's beginning; by node id why that could not be done."""
        unknown = {}
        for it in await ask_primaries(asked, self._source, timeout_seconds=timeout_seconds):
            node_id = it.shard.primary.node_id
            if isinstance(it.found, ClusterMap):
                self._refused.discard(node_id)
                if not self._shards.check(it.found):
                    unknown[node_id] = f"{it.address}: {it.found.unserved} slots have no primary"
                continue
            unknown[node_id] = f"{it.address}: {it.found.message}"
            if isinstance(it.found, SourceAuthError) and node_id not in self._refused:
                self._refused.add(node_id)
                log.warning("source.map_not_asked", error=str(it.found))
            else:
                log.debug("source.map_not_asked", error=str(it.found))
        return unknown
