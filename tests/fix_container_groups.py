"""A cluster and a Sentinel group in containers on a private network, each server with an address of its own.

For tests on Linux, where the engine's bridge can be reached from this machine. Nothing is published.
"""

from __future__ import annotations

import uuid
from typing import Any, Self

import redis

from engine.demo.servers import ServerBinary
from tests.conditions import holds as wait_for
from tests.fix_containers import PORT, image_of, need_engine, put_file

SLOTS = 16384
READY_SECONDS = 30.0
NODE_TIMEOUT_MS = 1000
SENTINEL_PORT = 26379
GROUP = "ferry"


class Node:
    """One container of a group."""

    def __init__(self, group: ContainerGroup, name: str, *words: str) -> None:
        self._group = group
        self.container = need_engine().containers.create(
            image_of(group.binary),
            list(words),
            name=f"{group.network.name}-{name}",
            entrypoint=[f"/usr/local/bin/{group.binary.product}-server"],
            network=group.network.name,
            detach=True,
        )
        self.port = PORT
        self._address = ""

    @property
    def host(self) -> str:
        """Its address on the private network; while it is cut off, the one that it had."""
        self.container.reload()
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        if self._group.network.name not in networks:
            return self._address
        return str(networks[self._group.network.name]["IPAddress"])

    def client(self) -> redis.Redis:
        return redis.Redis(
            host=self.host, port=self.port, socket_timeout=5, socket_connect_timeout=1
        )

    def put(self, path: str, text: str) -> None:
        """Write a file into the container before its start."""
        put_file(self.container, path, text)

    def start(self) -> None:
        self.container.start()
        wait_for(self._answers, f"{self.container.name} answers")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    # ---- faults

    def kill(self) -> None:
        self.container.kill()
        self.container.wait()

    def pause(self) -> None:
        self.container.pause()

    def unpause(self) -> None:
        self.container.unpause()

    def cut(self) -> None:
        """Partition it from all others; its processes go on."""
        self._address = self.host
        self._group.network.disconnect(self.container)

    def mend(self) -> None:
        """Back, under the address it had."""
        self._group.network.connect(self.container, ipv4_address=self._address)


class ContainerGroup:
    """Containers on a network of their own; all of it goes at the end of the block."""

    def __init__(self, binary: ServerBinary) -> None:
        self.binary = binary
        self.nodes: list[Node] = []
        self.network: Any = None

    def __enter__(self) -> Self:
        import docker

        # Only a network with a subnet of its own lets a container come back under its address.
        taken = uuid.uuid4().int
        subnet = f"10.{200 + taken % 50}.{taken // 50 % 256}.0/24"
        pool = docker.types.IPAMPool(subnet=subnet)
        self.network = need_engine().networks.create(
            f"redis-ferry-group-{uuid.uuid4().hex[:8]}", ipam=docker.types.IPAMConfig(pool_configs=[pool])
        )  # fmt: skip
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        raise NotImplementedError

    def _add(self, name: str, *words: str) -> Node:
        node = Node(self, name, *words)
        self.nodes.append(node)
        return node

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.container.remove(force=True, v=True)
        self.network.remove()


class ContainerCluster(ContainerGroup):
    """Three primaries that share the slots, each with `replicas` replicas. Redis 7.0 and later."""

    def __init__(
        self, binary: ServerBinary, *, replicas: int = 0, config: dict[str, str] | None = None
    ) -> None:
        super().__init__(binary)
        self._replicas = replicas
        self._config = config or {}

    def _build(self) -> None:
        options = _plain(
            **{"cluster-enabled": "yes", "cluster-node-timeout": str(NODE_TIMEOUT_MS)},
            **self._config,
        )
        count = 3 * (1 + self._replicas)
        for number in range(count):
            self._add(f"node{number}", *options).start()
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number < 3:
                    first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "MEET", self.nodes[0].host, PORT)
        wait_for(
            lambda: all(len(self._known_to(it)) == count for it in self.nodes),
            "all know each other",
        )
        for number, node in enumerate(self.nodes[3:]):
            with self.nodes[number % 3].client() as primary, node.client() as client:
                primary_id = primary.execute_command("CLUSTER", "MYID")
                client.execute_command("CLUSTER", "REPLICATE", primary_id)
        self.is_whole()

    def is_whole(self) -> None:
        """Wait until all nodes call it ok, and all replicas follow."""
        wait_for(
            lambda: all(self.state_at(it) == "ok" and _follows(it) for it in self.nodes),
            "the cluster is whole",
        )

    def _known_to(self, node: Node) -> list[str]:
        with node.client() as client:
            known: dict[str, dict[str, Any]] = client.cluster("nodes")
        return [name for name, it in known.items() if "handshake" not in it["flags"]]

    def primaries(self) -> list[Node]:
        """Those that can be reached and call themselves one."""
        found = []
        for node in self.nodes:
            try:
                with node.client() as client:
                    is_primary = client.role()[0] == b"master"
            except (redis.ConnectionError, redis.TimeoutError):
                continue
            if is_primary:
                found.append(node)
        return found

    def state_at(self, node: Node) -> str:
        """`cluster_state` as this node sees it."""
        with node.client() as client:
            return str(client.cluster("info")["cluster_state"])

    def client(self) -> redis.RedisCluster:
        return redis.RedisCluster(host=self.nodes[0].host, port=PORT)


class ContainerSentinel(ContainerGroup):
    """A primary, a replica of it, and a Sentinel that promotes the replica a second after the primary is gone."""

    primary: Node
    replica: Node
    sentinel: Node

    def _build(self) -> None:
        self.primary = self._add("primary", *_plain())
        self.primary.start()
        self.replica = self._add("replica", *_plain(replicaof=(self.primary.host, str(PORT))))
        self.replica.start()
        wait_for(lambda: _link_of(self.replica) == "up", "the replica follows")
        self.sentinel = self._add("sentinel", "/data/sentinel.conf", "--sentinel")
        self.sentinel.port = SENTINEL_PORT
        self.sentinel.put(
            "/data/sentinel.conf",
            f"port {SENTINEL_PORT}\nprotected-mode no\n"
            f"sentinel monitor {GROUP} {self.primary.host} {PORT} 1\n"
            f"sentinel down-after-milliseconds {GROUP} 1000\n",
        )
        self.sentinel.start()
        wait_for(lambda: self._replicas() == 1, "the Sentinel knows the replica")

    def _replicas(self) -> int:
        with self.sentinel.client() as client:
            return len(client.sentinel_slaves(GROUP))

    def primary_address(self) -> tuple[str, int]:
        """Where the Sentinel says that the primary is."""
        with self.sentinel.client() as client:
            host, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP)
        return str(host.decode() if isinstance(host, bytes) else host), int(port)


def _plain(**more: str | tuple[str, ...]) -> list[str]:
    options: dict[str, str | tuple[str, ...]] = {
        "port": str(PORT), "bind": "0.0.0.0", "protected-mode": "no", "save": "", "dir": "/data",
        "repl-diskless-sync-delay": "0",
    }  # fmt: skip
    words = []
    for name, value in (options | more).items():
        words += [f"--{name}", *([value] if isinstance(value, str) else value)]
    return words


def _link_of(replica: Node) -> str:
    with replica.client() as client:
        return str(client.info("replication").get("master_link_status"))


def _follows(node: Node) -> bool:
    """Whether it has its primary's data; a primary does."""
    with node.client() as client:
        info = client.info("replication")
    return info["role"] == "master" or info["master_link_status"] == "up"
