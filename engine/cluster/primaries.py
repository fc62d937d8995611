"""Asks every primary of a cluster for the map: each alone tells which slots it is handing over or taking."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.topology import ClusterMap, Shard
from engine.control_client import raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import EngineError, SourceNotReady


@dataclass(frozen=True, slots=True)
class Answer:
    """What one primary said. found: its map, or why there is none."""

    shard: Shard
    address: str
    found: ClusterMap | EngineError


async def ask_primaries(
    shards: Sequence[Shard], like: Endpoint, *, timeout_seconds: float
) -> list[Answer]:
    """The map as the primary of each of these shards of a source has it, all asked at the same time. Never raises.

    A slot that is being moved stands only in the lines that its two primaries tell of themselves (cluster.c,
    clusterGenNodeDescription); replicas know it from Valkey 8.0 on.

    like: the side's URL. timeout_seconds: for each.
    """

    async def ask(shard: Shard) -> Answer:
        endpoint = endpoint_of(shard.primary, like)
        try:
            found = await ask_cluster_map(endpoint, role="source", timeout_seconds=timeout_seconds)
        except EngineError as error:
            raise_if_cancelled()
            return Answer(shard, endpoint.address, error)
        if found is None:
            gone = SourceNotReady(f"{endpoint.address} is no cluster node any more")
            return Answer(shard, endpoint.address, gone)
        return Answer(shard, endpoint.address, found)

    return list(await asyncio.gather(*(ask(it) for it in shards)))


def moving_in(answers: Sequence[Answer]) -> frozenset[int]:
    """The slots that one of them is handing over or taking."""
    maps = (it.found for it in answers if isinstance(it.found, ClusterMap))
    return frozenset(slot for it in maps for slot in it.moving)
