"""A cluster's map: which shard serves which slots, which node is its primary. Pure.

Read from CLUSTER NODES (cluster.c, clusterGenNodesDescription), which every version since 3.0 has, else from
CLUSTER SHARDS (7.0) or CLUSTER SLOTS.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

SLOTS = 16384
_AWAY_FLAGS = frozenset({"fail", "noaddr", "handshake"})
_SUSPECT_FLAG = "fail?"

Range = tuple[int, int]  # first and last slot


@dataclass(frozen=True, slots=True)
class Node:
    """One server of a cluster, where it says it can be reached. is_suspect: whoever told of it had no answer from it lately."""

    node_id: str
    host: str
    port: int
    is_primary: bool
    is_up: bool = True
    is_suspect: bool = False

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Shard:
    """Nodes with the same data. epoch: the primary's configuration epoch, 0 where it is not told."""

    primary: Node
    replicas: tuple[Node, ...]
    ranges: tuple[Range, ...]
    epoch: int = 0

    @property
    def node_ids(self) -> frozenset[str]:
        """Of all its nodes."""
        return frozenset(it.node_id for it in (self.primary, *self.replicas))

    @property
    def slots(self) -> frozenset[int]:
        """The slots it serves."""
        return frozenset(slot for first, last in self.ranges for slot in range(first, last + 1))

    @property
    def first_slot(self) -> int:
        """The lowest of its slots."""
        return min(first for first, _ in self.ranges)


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """Shards that serve slots, by their lowest one. moving: slots that the node asked is handing over or taking.

    idle: primaries that are up and serve none, as CLUSTER NODES tells; one that was just added may be taking its first.
    """

    shards: tuple[Shard, ...]
    moving: frozenset[int] = frozenset()
    idle: tuple[Node, ...] = field(default=(), compare=False)

    @property
    def unserved(self) -> int:
        """How many slots no primary that is up serves."""
        return SLOTS - sum(
            last - first + 1
            for shard in self.shards
            if shard.primary.is_up
            for first, last in shard.ranges
        )

    @property
    def sees_majority(self) -> bool:
        """Whether the node asked reaches most primaries: one that does not may not know who leads now.

        It serves nothing itself then (cluster_legacy.c, clusterUpdateState).
        """
        reached = sum(it.primary.is_up and not it.primary.is_suspect for it in self.shards)
        return reached > len(self.shards) // 2

    def table(self) -> array[int]:
        """For each slot the number of its shard in `shards`, -1 if nobody serves it."""
        table = array("i", [-1]) * SLOTS
        for number, shard in enumerate(self.shards):
            for first, last in shard.ranges:
                table[first : last + 1] = array("i", [number]) * (last - first + 1)
        return table

    def shard_of(self, slot: int) -> Shard | None:
        """Who serves a slot."""
        for shard in self.shards:
            if any(first <= slot <= last for first, last in shard.ranges):
                return shard
        return None

    def same_shard(self, slots: str, node_ids: Iterable[str]) -> Shard | None:
        """The shard with exactly these slots (`shown_ranges`), if one of these nodes belongs to it.

        Not by its nodes alone: a replica may go over to another shard (cluster.c, clusterHandleSlaveMigration).
        """
        wanted = frozenset(node_ids)
        return next(
            (it for it in self.shards if shown_ranges(it.ranges) == slots and wanted & it.node_ids),
            None,
        )


def failed_over(before: ClusterMap, after: ClusterMap) -> bool:
    """Whether a primary may have been replaced by one that lacks writes; slots that only moved are no such case.

    A primary that is none any more, or one with a higher epoch although it got no slots (it lost its place and got it back).
    """
    now = {it.primary.node_id: it for it in after.shards}
    for shard in before.shards:
        same = now.get(shard.primary.node_id)
        if same is None or (same.epoch != shard.epoch and same.slots <= shard.slots):
            return True
    return False


def shown_ranges(ranges: Sequence[Range]) -> str:
    """Slots in words, such as `0-5460 5470`."""
    return " ".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)


def ranges_of(slots: Iterable[int]) -> tuple[Range, ...]:
    """Slots as ranges."""
    found: list[Range] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return tuple(found)


def place_in_redirection(text: str, asked_host: str) -> tuple[str, int]:
    """Where `ASK 100 host:port` or `MOVED 100 host:port` points to; no host means the node that was asked."""
    host, _, port = text.split()[2].rpartition(":")
    return host.strip("[]") or asked_host, int(port)


def read_nodes(text: str, asked_host: str) -> ClusterMap:
    """CLUSTER NODES. asked_host: what a node that does not know its own address is called.

    Raises:
        ValueError: the text is not of that form.
    """
    nodes: dict[str, tuple[Node, str, int]] = {}
    ranges: dict[str, list[Range]] = {}
    moving: set[int] = set()
    for line in text.splitlines():
        if not line.strip():
            continue
        node_id, place, flag_text, primary_id, _, _, epoch, _, *words = line.split()
        flags = set(flag_text.split(","))
        host, port = _place(place, asked_host)
        node = Node(
            node_id,
            host,
            port,
            is_primary="master" in flags,
            is_up=not flags & _AWAY_FLAGS,
            is_suspect=_SUSPECT_FLAG in flags,
        )
        nodes[node_id] = (node, primary_id, int(epoch))
        for word in words:
            if word.startswith("["):
                moving.add(int(word[1:].split("-", 1)[0]))
                continue
            first, _, last = word.partition("-")
            ranges.setdefault(node_id, []).append((int(first), int(last or first)))
    shards = [
        Shard(
            primary=nodes[node_id][0],
            replicas=tuple(it for it, of, _ in nodes.values() if of == node_id),
            ranges=tuple(sorted(served)),
            epoch=nodes[node_id][2],
        )
        for node_id, served in ranges.items()
    ]
    idle = [
        it for it, _, _ in nodes.values() if it.is_primary and it.is_up and it.node_id not in ranges
    ]
    return replace(_checked(shards, moving), idle=tuple(idle))


def _place(place: str, asked_host: str) -> tuple[str, int]:
    """`ip:port@bus[,hostname[,…]]`; an IPv6 address stands there without brackets."""
    address = place.split(",", 1)[0].split("@", 1)[0]
    host, _, port = address.rpartition(":")
    return host.strip("[]") or asked_host, int(port)


def read_shards(reply: Sequence[Any], asked_host: str, *, is_tls: bool = False) -> ClusterMap:
    """CLUSTER SHARDS, in RESP2: lists of names and values.

    is_tls: whether nodes are to be reached with TLS. It tells both ports, whoever asks (cluster.c,
    addNodeDetailsToShardReply), unlike NODES and SLOTS, which tell that of the asker's kind.
    """
    shards = []
    for entry in reply:
        fields = _named(entry)
        flat = [int(it) for it in fields.get("slots", ())]
        nodes = [_shard_node(_named(it), asked_host, is_tls) for it in fields.get("nodes", ())]
        primaries = [it for it in nodes if it.is_primary]
        if not flat or not primaries:
            continue
        primary = next((it for it in primaries if it.is_up), primaries[0])
        shards.append(
            Shard(
                primary=primary,
                replicas=tuple(it for it in nodes if it is not primary),
                ranges=tuple(sorted(zip(flat[::2], flat[1::2], strict=True))),
            )
        )
    return _checked(shards, ())


def _named(flat: Any) -> dict[str, Any]:
    if isinstance(flat, Mapping):
        return {_text(name): value for name, value in flat.items()}
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _shard_node(fields: Mapping[str, Any], asked_host: str, is_tls: bool) -> Node:
    first, other = ("tls-port", "port") if is_tls else ("port", "tls-port")
    host = _text(fields.get("endpoint") or fields.get("ip") or "")
    return Node(
        node_id=_text(fields["id"]),
        host=asked_host if host in {"", "?"} else host,
        port=int(fields.get(first) or fields[other]),
        is_primary=_text(fields.get("role", "")) == "master",
        is_up=_text(fields.get("health", "online")) != "fail",
    )


def read_slots(reply: Sequence[Any], asked_host: str) -> ClusterMap:
    """CLUSTER SLOTS. Servers before 4.0 leave the ids out; then a node is named by its address."""
    served: dict[str, list[Range]] = {}
    nodes: dict[str, tuple[Node, tuple[Node, ...]]] = {}
    for first, last, *members in reply:
        found = []
        for place, member in enumerate(members):
            host, port = _text(member[0] or ""), int(member[1])
            host = asked_host if host in {"", "?"} else host
            node_id = _text(member[2]) if len(member) > 2 else f"{host}:{port}"
            found.append(Node(node_id, host, port, is_primary=place == 0))
        served.setdefault(found[0].node_id, []).append((int(first), int(last)))
        nodes[found[0].node_id] = (found[0], tuple(found[1:]))
    shards = [
        Shard(primary=nodes[it][0], replicas=nodes[it][1], ranges=tuple(sorted(ranges)))
        for it, ranges in served.items()
    ]
    return _checked(shards, ())


def _checked(shards: list[Shard], moving: Iterable[int]) -> ClusterMap:
    for shard in shards:
        for first, last in shard.ranges:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"slots {first}-{last} cannot be")
    return ClusterMap(tuple(sorted(shards, key=lambda it: it.first_slot)), frozenset(moving))
