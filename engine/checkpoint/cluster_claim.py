"""Taking a line over on a cluster: the epoch in one slot, older connections closed on all nodes, every slot read."""

from __future__ import annotations

import asyncio
from array import array

from engine.checkpoint.checkpoint import Checkpoint, checkpoint_key
from engine.checkpoint.claim import Claim, LineClaim
from engine.checkpoint.slot_checkpoints import SlotCheckpoints, joined, slot_suffix
from engine.checkpoint.slot_reading import read_slots
from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.slot_holders import SlotHolders, ask_holders
from engine.cluster.topology import SLOTS, ClusterMap, Node
from engine.codec.slots import key_slot
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetNotReady, TargetRefused
from engine.settings import TargetSettings

REPLICA_TIMEOUT_SECONDS = 1.0


class ClusterClaim:
    """The right to write one line on a cluster.

    map, endpoints: the newest map, and each shard's primary in its order. slots: what every slot said when it was read.
    silent: addresses of nodes that did not answer lately.
    """

    def __init__(
        self,
        url: Endpoint,
        settings: TargetSettings,
        claim: LineClaim,
        *,
        key: bytes,
        suffix: bytes,
    ) -> None:
        self._url = url
        self._settings = settings
        self._claim = claim
        self._key_slot = key_slot(key)
        self._suffix = suffix
        self.map = ClusterMap(())
        self.endpoints: list[Endpoint] = []
        self.silent: set[str] = set()
        self.slots = SlotCheckpoints(None, array("q", [0]) * SLOTS)

    def endpoint_at(self, host: str, port: int) -> Endpoint:
        """A node that a redirection names."""
        return endpoint_of(Node("", host, port, is_primary=True), self._url)

    async def refresh(self) -> bool:
        """Ask for the map; whether it has changed.

        Raises:
            TargetUnreachable, TargetAuthError. TargetNotReady: slots are served by nobody.
        """
        found = await self._newest_map()
        is_new = [it.ranges for it in found.shards] != [it.ranges for it in self.map.shards] or [
            it.primary.node_id for it in found.shards
        ] != [it.primary.node_id for it in self.map.shards]
        self.map = found
        self.endpoints = [endpoint_of(it.primary, self._url) for it in found.shards]
        self._claim.move_to(self.endpoints[found.table()[self._key_slot]])
        return is_new

    async def _newest_map(self) -> ClusterMap:
        found = await ask_cluster_map(
            self._url,
            role="target",
            timeout_seconds=self._settings.connect_timeout_seconds,
            known=self.map if self.map.shards else None,
            silent=self.silent,
        )
        if found is None:
            raise TargetRefused(
                f"the target {self._url.address} is no cluster any more",
                hint="start a new task for it",
            )
        if found.unserved:
            raise TargetNotReady(
                f"{found.unserved} slots of the target cluster are served by nobody now",
                code="CLUSTERDOWN",
                hint="a failover is under way, or the cluster is to be repaired: redis-cli --cluster check",
            )
        return found

    async def holders(self) -> SlotHolders:
        """Which primaries have which slots now, as each says of itself; `map` stays as it is.

        Raises:
            As `refresh`.
        """
        return await ask_holders(
            await self._newest_map(),
            self._url,
            timeout_seconds=self._settings.connect_timeout_seconds,
        )

    async def peek(self) -> Checkpoint | None:
        """What the cluster has now; changes nothing."""
        await self.refresh()
        found = await self._claim.peek()
        return None if found is None else await self._whole(found)

    async def take(self, known_epoch: int) -> Claim:
        """As LineClaim.take, on all nodes of the map; then every slot's checkpoint is read into `slots`."""
        claim = await self._claim.take(known_epoch)
        nodes = [node for it in self.map.shards for node in (it.primary, *it.replicas)]
        await asyncio.gather(*(self._close_older_on(it, claim.epoch) for it in nodes if it.is_up))
        if claim.checkpoint is None:
            return claim
        whole = await self._whole(claim.checkpoint)
        # What a stay of ours has written is in the slots, not in the claim.
        return Claim(claim.epoch, whole, claim.was_there or self.slots.was_there)

    async def _close_older_on(self, node: Node, epoch: int) -> None:
        most = self._settings.connect_timeout_seconds
        try:
            await self._claim.close_older_on(
                endpoint_of(node, self._url),
                epoch,
                timeout_seconds=most if node.is_primary else min(most, REPLICA_TIMEOUT_SECONDS),
            )
        except EngineError:
            # A replica that does not answer takes no writes either.
            if node.is_primary:
                raise

    async def check(self, epoch: int) -> None:
        """As LineClaim.check."""
        await self._claim.check(epoch)

    async def withdraw(self) -> None:
        """As LineClaim.withdraw."""
        await self._claim.withdraw()

    async def _whole(self, found: Checkpoint) -> Checkpoint:
        self.slots = joined(
            await read_slots(
                self.map, self.endpoints, self._settings, self._suffix, self.endpoint_at
            )
        )
        return Checkpoint(
            position=self.slots.position,
            db=self.slots.db,
            epoch=found.epoch,
            ledger=self.slots.ledger or found.ledger,
            margin_since_ms=self.slots.margin_since_ms,
            source_shard=found.source_shard,
            selection=found.selection,
        )


async def read_whole(
    target: Endpoint, settings: TargetSettings, task_id: str, line: str
) -> Checkpoint | None:
    """What a cluster has of a line, all slots together; changes nothing. Raises as `ClusterClaim.peek`."""
    key = checkpoint_key(task_id, line)
    claim = LineClaim(target, settings, key, connection_prefix="", selection=None)
    suffix = slot_suffix(task_id, line)
    return await ClusterClaim(target, settings, claim, key=key, suffix=suffix).peek()
