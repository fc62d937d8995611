"""Where a line's server is now: a fixed address, whoever the Sentinels call the primary, or a node of a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

import structlog

from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.sentinel import ask_primary
from engine.cluster.topology import ClusterMap, Shard, shown_ranges
from engine.endpoint import Endpoint, Role
from engine.errors import SourceNotReady, SourceRefused

log = structlog.get_logger("engine.cluster")


class Place(Protocol):
    """endpoint: where the server was last found; before the first `locate` what the URL says."""

    @property
    def endpoint(self) -> Endpoint:
        """See the class."""

    @property
    def is_cluster_shard(self) -> bool:
        """Whether a node of a cluster is expected there."""

    async def locate(self) -> Endpoint:
        """Find the server. Raises the errors of discovery.py and sentinel.py."""


class FixedPlace:
    """One address."""

    def __init__(self, endpoint: Endpoint, *, is_cluster_shard: bool = False) -> None:
        self.endpoint = endpoint
        self.is_cluster_shard = is_cluster_shard

    async def locate(self) -> Endpoint:
        """The address."""
        return self.endpoint


class SentinelPlace:
    """Whoever the Sentinels call the primary."""

    is_cluster_shard = False

    def __init__(self, asked: Endpoint, *, role: Role) -> None:
        self._asked = asked
        self._role: Role = role
        self.endpoint = asked

    async def locate(self) -> Endpoint:
        """Ask the Sentinels."""
        found = await ask_primary(self._asked, role=self._role)
        if found.address != self.endpoint.address:
            log.info("sentinel.primary", role=self._role, address=found.address)
        self.endpoint = found
        return found


class ShardPlace:
    """The primary of a source shard, or a replica of it. The shard is known by its nodes, whoever leads them.

    check: raises if the map says that the line may not go on.
    """

    is_cluster_shard = True

    def __init__(
        self,
        url: Endpoint,
        known: ClusterMap,
        shard: Shard,
        *,
        reads_from_replica: bool,
        timeout_seconds: float,
        check: Callable[[ClusterMap], object],
    ) -> None:
        self._url = url
        self._known = known
        self._node_ids = set(shard.node_ids)
        self._reads_from_replica = reads_from_replica
        self._timeout_seconds = timeout_seconds
        self._check = check
        self.shard = shard
        self.endpoint = self._endpoint_in(shard)

    def _endpoint_in(self, shard: Shard) -> Endpoint:
        node = shard.primary
        if self._reads_from_replica:
            node = next((it for it in shard.replicas if it.is_up), node)
        return endpoint_of(node, self._url)

    async def locate(self) -> Endpoint:
        """Ask the cluster who leads the shard now.

        Raises:
            SourceUnreachable, SourceAuthError, SourceNotReady: nobody leads it yet.
            SourceRefused: the shard is gone, or what `check` raises.
        """
        found = await ask_cluster_map(
            self._url, role="source", timeout_seconds=self._timeout_seconds, known=self._known
        )
        if found is None:
            raise SourceRefused(
                f"the source {self._url.address} is no cluster any more",
                hint="start a new task for it",
            )
        self._check(found)
        shard = found.same_shard(shown_ranges(self.shard.ranges), self._node_ids)
        if shard is None:
            raise SourceNotReady(
                f"no primary serves the slots of the shard that {self.endpoint.address} belonged to",
                hint="a failover is under way, or the shard was removed: see redis-cli CLUSTER NODES",
            )
        if not shard.primary.is_up and not self._reads_from_replica:
            raise SourceNotReady(
                f"the primary {shard.primary.address} of a source shard is down",
                hint="its replica will be promoted, if there is one",
            )
        self._known, self.shard = found, shard
        self._node_ids |= shard.node_ids
        endpoint = self._endpoint_in(shard)
        if endpoint.address != self.endpoint.address:
            log.info("shard.moved_to", was=self.endpoint.address, now=endpoint.address)
        self.endpoint = endpoint
        return endpoint


def place_of(endpoint: Endpoint, *, role: Role) -> Place:
    """The place of a server that is no shard of a source cluster."""
    if endpoint.sentinel is not None:
        return SentinelPlace(endpoint, role=role)
    return FixedPlace(replace(endpoint, more=()))


def with_address_map(endpoint: Endpoint, pairs: Iterable[tuple[str, str]]) -> Endpoint:
    """The endpoint with an address map."""
    return replace(endpoint, address_map=tuple(pairs))
