"""Which primaries hold which slots, as each one says of itself; whether a slot may have moved between two looks.

Config epochs tell a slot that went and came back: a primary that takes a slot over gets the cluster's highest one, unless
it has that already, and then it gave nothing away meanwhile (cluster.c, clusterBumpConfigEpochWithoutConsensus).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.topology import SLOTS, ClusterMap, Node
from engine.endpoint import Endpoint

# Of one slot: node id, its epoch, whether it is handing the slot over or taking it; of each node that has to do with it.
Holders = tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True, slots=True)
class SlotHolders:
    """One look at a cluster. endpoints: the primaries by node id, also those without slots. slots: of each its holders."""

    endpoints: Mapping[str, Endpoint]
    slots: Sequence[Holders]

    def endpoints_with(self, slots: frozenset[int]) -> list[Endpoint]:
        """The primaries that have to do with any of these slots."""
        ids = {node_id for slot in slots for node_id, _, _ in self.slots[slot]}
        return [it for node_id, it in self.endpoints.items() if node_id in ids]


def unsettled(
    slots: frozenset[int], before: SlotHolders, after: SlotHolders, earlier: SlotHolders | None
) -> frozenset[int]:
    """Those of `slots` whose keys may have been missed by a pass over all their holders.

    before, after: looks around the pass. earlier: the one before the last pass over the same slots. A slot that is being
    moved is whole after two passes: the one it leaves was looked at before the one it goes to.
    """

    def is_settled(slot: int) -> bool:
        now = after.slots[slot]
        if now != before.slots[slot]:
            return False
        is_still = len(now) == 1 and not now[0][2]
        return is_still or (earlier is not None and now == earlier.slots[slot])

    return frozenset(slot for slot in slots if not is_settled(slot))


def holders_of(maps: Mapping[str, ClusterMap]) -> list[Holders]:
    """Of each slot its holders; from each primary's own map, by its node id."""
    found: list[Holders] = [()] * SLOTS
    for node_id, its in sorted(maps.items()):
        shard = next((it for it in its.shards if it.primary.node_id == node_id), None)
        epoch = 0 if shard is None else shard.epoch
        for slot in its.moving if shard is None else its.moving | shard.slots:
            found[slot] += ((node_id, epoch, slot in its.moving),)
    return found


async def ask_holders(first: ClusterMap, like: Endpoint, *, timeout_seconds: float) -> SlotHolders:
    """Ask every primary for its own map: those of `first`, and those that they name. like: the target's URL.

    Where only CLUSTER SHARDS or SLOTS are permitted, epochs and slots in motion are not told.

    Raises:
        TargetUnreachable, TargetAuthError, TargetNotReady: of any of them.
    """
    nodes = _primaries(first)
    endpoints: dict[str, Endpoint] = {}
    maps: dict[str, ClusterMap] = {}
    while nodes:
        node = nodes.pop(0)
        if node.node_id in maps:
            continue
        endpoint = endpoint_of(node, like)
        told = await ask_cluster_map(endpoint, role="target", timeout_seconds=timeout_seconds)
        its = maps[node.node_id] = ClusterMap(()) if told is None else told
        its_primaries = _primaries(its)
        if any(it.node_id == node.node_id for it in its_primaries):
            endpoints[node.node_id] = endpoint
        nodes += its_primaries
    return SlotHolders(endpoints, holders_of(maps))


def _primaries(found: ClusterMap) -> list[Node]:
    return [*(it.primary for it in found.shards if it.primary.is_up), *found.idle]
