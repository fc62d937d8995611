"""A real cluster on 127.0.0.1: primaries with replicas, up in some three seconds, and what is done to one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from redis.exceptions import RedisError

from engine.cluster.topology import SLOTS, ClusterMap, Range, read_nodes
from engine.demo.servers import RunningServer, ServerBinary
from engine.endpoint import Endpoint
from tests.conditions import holds
from tests.servers.provider import provider

NODE_TIMEOUT_MS = 1000
# For tests in which no node fails: a busy machine lets none look as if.
PATIENT = {"cluster-node-timeout": 15_000}
START_SECONDS = 20.0
POLL_SECONDS = 0.02
LACKING_BYTES = 5000  # of what a replica that is cut off lacks at least
KEYS_AT_ONCE = 100


def even_ranges(shards: int) -> list[list[Range]]:
    """All slots, in order, in equal parts."""
    edges = [SLOTS * n // shards for n in range(shards + 1)]
    return [[(edges[n], edges[n + 1] - 1)] for n in range(shards)]


class ClusterNode:
    """One server of a cluster. node_id: as the cluster calls it."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        with server.client() as client:
            self.node_id = self._text(client.execute_command("CLUSTER", "MYID"))

    @staticmethod
    def _text(reply: Any) -> str:
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def ask(self, *command: Any) -> Any:
        with self.server.client() as client:
            return client.execute_command(*command)

    def map(self) -> ClusterMap:
        return read_nodes(self._text(self.ask("CLUSTER", "NODES")), "127.0.0.1")

    @property
    def is_ok(self) -> bool:
        return "cluster_state:ok" in self._text(self.ask("CLUSTER", "INFO"))


class RunningCluster:
    """Primaries and their replicas, processes or containers (provider.py). `with` runs it; every node is ended at the end.

    layout: the slots of each primary. replicas: for each primary. binaries: one for all nodes.
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        layout: Sequence[Sequence[Range]] | None = None,
        replicas: int = 1,
        config: dict[str, Any] | None = None,
    ) -> None:
        self._binary = binary
        self._layout = layout or even_ranges(3)
        self._replicas = replicas
        self._config = config or {}
        self.nodes: list[ClusterNode] = []
        self._servers: list[RunningServer] = []

    # ---- life

    def start(self) -> Self:
        count = len(self._layout) * (1 + self._replicas)
        with ThreadPoolExecutor(4) as pool:
            self.nodes = list(pool.map(lambda _: self._start_node(), range(count)))
        first = self.nodes[0]
        for epoch, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            if node is not first:
                node.ask("CLUSTER", "MEET", "127.0.0.1", first.server.port)
        primaries = self.nodes[: len(self._layout)]
        for node, ranges in zip(primaries, self._layout, strict=True):
            slots = [slot for a, b in ranges for slot in range(a, b + 1)]
            node.ask("CLUSTER", "ADDSLOTS", *slots)
        holds(lambda: self._knows_all(count), "every node knows every other one")
        for number, node in enumerate(self.nodes[len(primaries) :]):
            node.ask("CLUSTER", "REPLICATE", primaries[number % len(primaries)].node_id)
        self.is_ok()
        return self

    def _start_node(self) -> ClusterNode:
        for attempt in range(5):
            server = provider().server(
                self._binary,
                port=provider().cluster_port(),
                config={
                    "cluster-enabled": "yes",
                    "cluster-node-timeout": NODE_TIMEOUT_MS,
                    "cluster-config-file": "nodes.conf",
                    "repl-diskless-sync-delay": 0,
                    "repl-ping-replica-period": 1,
                    "enable-debug-command": "yes",
                    **self._config,
                },
            )
            self._servers.append(server)
            try:
                return ClusterNode(server.start())
            except Exception:
                if attempt == 4:
                    raise
        raise AssertionError

    def _knows_all(self, count: int) -> bool:
        return all(
            len(
                [
                    it
                    for it in ClusterNode._text(node.ask("CLUSTER", "NODES")).splitlines()
                    if "handshake" not in it
                ]
            )
            >= count
            for node in self.nodes
        )

    def add_node(self) -> ClusterNode:
        """One more primary, without slots, known to all."""
        node = self._start_node()
        known = next(it for it in self.nodes if it.server.is_running)
        node.ask("CLUSTER", "MEET", "127.0.0.1", known.server.port)
        self.nodes.append(node)
        holds(
            lambda: all(
                node.node_id in ClusterNode._text(it.ask("CLUSTER", "NODES"))
                for it in self.nodes
                if it.server.is_running
            ),
            "all know the new node",
        )
        holds(lambda: node.is_ok, "the new node is ok")
        return node

    def stop(self) -> None:
        for server in self._servers:
            server.kill()
            server.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- what it is

    @property
    def running(self) -> list[ClusterNode]:
        return [it for it in self.nodes if it.server.is_running]

    def is_ok(self, deadline_seconds: float = START_SECONDS) -> None:
        """Wait until every node that runs calls the cluster ok, and every replica has its primary's data."""

        def all_ok() -> bool:
            try:
                return all(it.is_ok and self._is_synced(it) for it in self.running)
            except (RedisError, OSError):
                return False

        holds(all_ok, "the cluster is ok", deadline_seconds)

    def replicas_are_known(self) -> None:
        """Wait until every node has each replica in its map: they hear of it by gossip."""
        holds(
            lambda: all(
                len(shard.replicas) == self._replicas
                for node in self.running
                for shard in node.map().shards
            ),
            "all replicas are in all maps",
        )

    def _is_synced(self, node: ClusterNode) -> bool:
        with node.server.client() as client:
            info = client.info("replication")
        return bool(info["role"] == "master" or info.get("master_link_status") == "up")

    def map(self) -> ClusterMap:
        return self.running[0].map()

    def primaries(self) -> list[ClusterNode]:
        ids = [it.primary.node_id for it in self.map().shards]
        return [next(it for it in self.nodes if it.node_id == wanted) for wanted in ids]

    def primary_of(self, slot: int) -> ClusterNode:
        shard = self.map().shard_of(slot)
        assert shard is not None
        return next(it for it in self.nodes if it.node_id == shard.primary.node_id)

    def replicas_of(self, node: ClusterNode) -> list[ClusterNode]:
        shard = next(it for it in self.map().shards if it.primary.node_id == node.node_id)
        ids = {it.node_id for it in shard.replicas}
        return [it for it in self.nodes if it.node_id in ids]

    @property
    def endpoint(self) -> Endpoint:
        return self.running[0].server.endpoint

    @property
    def url(self) -> str:
        return "redis://" + ",".join(f"127.0.0.1:{it.server.port}" for it in self.nodes[:3])

    def offsets(self) -> dict[str, int]:
        """The replication offset of each primary, by its node id."""
        found = {}
        for node in self.primaries():
            with node.server.client() as client:
                found[node.node_id] = int(client.info("replication")["master_repl_offset"])
        return found

    # ---- what is done to it

    def promote(self, replica: ClusterNode) -> None:
        """A manual failover, and wait until all know."""
        replica.ask("CLUSTER", "FAILOVER")
        self.follows(replica)

    def follows(self, node: ClusterNode, deadline_seconds: float = START_SECONDS) -> None:
        """Wait until everyone has `node` as a primary."""
        holds(
            lambda: all(
                node.node_id in {it.primary.node_id for it in other.map().shards}
                for other in self.running
            ),
            "the replica is promoted",
            deadline_seconds,
        )

    def move_slot(self, slot: int, to: ClusterNode) -> None:
        """As redis-cli --cluster reshard does it: key by key, with MIGRATE."""
        if self.primary_of(slot).node_id == to.node_id:
            return
        self.begin_move(slot, to)
        self.move_keys(slot, to)
        self.finish_move(slot, to)

    def move_slots(self, slots: Sequence[int], to: ClusterNode) -> None:
        """Slots of one primary, one after the other as redis-cli does it, with connections that stay open."""
        origin = self.primary_of(slots[0])
        assert origin.node_id != to.node_id
        with contextlib.ExitStack() as stack:
            client, other = (
                stack.enter_context(it.server.client(timeout_seconds=20)) for it in (origin, to)
            )
            rest = [
                stack.enter_context(it.server.client(timeout_seconds=20))
                for it in self.primaries()
                if it.node_id not in {origin.node_id, to.node_id}
            ]
            for slot in slots:
                setslot = ("CLUSTER", "SETSLOT", slot)
                other.execute_command(*setslot, "IMPORTING", origin.node_id)
                client.execute_command(*setslot, "MIGRATING", to.node_id)
                while keys := client.execute_command(
                    "CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE
                ):
                    client.execute_command(
                        "MIGRATE", "127.0.0.1", to.server.port, "", 0, 5000, "REPLACE",
                        "KEYS", *keys,
                    )  # fmt: skip
                for node in (other, client, *rest):
                    node.execute_command(*setslot, "NODE", to.node_id)

    def begin_move(self, slot: int, to: ClusterNode) -> None:
        """The slot is MIGRATING at its primary and IMPORTING at the other."""
        origin = self.primary_of(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", origin.node_id)
        origin.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.node_id)

    def move_keys(self, slot: int, to: ClusterNode, *, most: int | None = None) -> None:
        """Keys of a slot that is being moved: all, or so many."""
        with self.primary_of(slot).server.client() as client:
            while keys := client.execute_command(
                "CLUSTER", "GETKEYSINSLOT", slot, most or KEYS_AT_ONCE
            ):
                client.execute_command(
                    "MIGRATE", "127.0.0.1", to.server.port, "", 0, 5000, "REPLACE", "KEYS", *keys
                )
                if most is not None:
                    return

    def finish_move(self, slot: int, to: ClusterNode) -> None:
        """All know who has the slot now."""
        origin = self.primary_of(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "NODE", to.node_id)
        origin.ask("CLUSTER", "SETSLOT", slot, "NODE", to.node_id)
        for node in self.primaries():
            if node.node_id not in {to.node_id, origin.node_id}:
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.node_id)

    def migrate_slots(self, first: int, last: int, to: ClusterNode) -> None:
        """Atomically, as Valkey 9 does it (cluster_migrateslots.c); ends when the slots are there."""
        origin = self.primary_of(first)
        origin.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", to.node_id)
        holds(
            lambda: all(
                (shard := it.map().shard_of(first)) is not None
                and shard.primary.node_id == to.node_id
                for it in self.running
            ),
            "the slots have moved",
        )


@contextlib.contextmanager
def paused(server: RunningServer) -> Iterator[None]:
    """The server stands still; it may be killed meanwhile."""
    server.pause()
    try:
        yield
    finally:
        server.unpause()


@contextlib.contextmanager
def cut_off(replica: RunningServer, primary: RunningServer) -> Iterator[None]:
    """The replica stands still without a link: what its primary takes from now on it lacks.

    What is sent to a process that only stands still waits for it in its socket, and outlives the sender.
    """
    with paused(replica):
        with primary.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        yield


def offset_at_promotion(server: RunningServer) -> int:
    """How far a promoted replica had come when it became the primary (replication.c, shiftReplicationId)."""
    with server.client() as client:
        return int(client.info("replication")["second_repl_offset"]) - 1
