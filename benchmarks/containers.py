"""Benchmark servers in containers: on the engine's own bridge, each under its own address, nothing between them and us.

A published port would go through a relay of the engine's, which is slower than the servers are. Linux, where the bridge can be
reached from this machine. Images: see tests/fix_containers.py.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.demo.servers import ServerBinary
from tests.conditions import holds
from tests.fix_containers import PORT, ContainerServer, engine, image_of
from tests.servers.cluster import even_ranges


class BridgedServer(ContainerServer):
    """A server in a container, to be reached at its own address."""

    _folder: Path | None = None

    def _create(self) -> None:
        made = engine().containers.run(
            image_of(self.binary),
            self._arguments(),
            entrypoint=[f"/usr/local/bin/{self.binary.product}-server"],
            detach=True,
        )
        self._container = made
        made.reload()
        self.host, self.port = made.attrs["NetworkSettings"]["IPAddress"], PORT
        self._port_is_chosen = True

    def fetched(self, name: str) -> Path:
        """A copy of a file of its working folder; it goes with the server."""
        parts, _ = self._container.get_archive(f"/data/{name}")
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="redis-ferry-bench-"))
        with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as packed:
            packed.extractall(self._folder, filter="data")
        return self._folder / name

    def stop(self) -> None:
        """Remove the container and what was fetched of it."""
        super().stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


@contextmanager
def bridged_cluster(binary: ServerBinary, shards: int) -> Iterator[list[BridgedServer]]:
    """The primaries of a cluster, in the order of their slots, which are even ranges."""
    config: dict[str, str | int] = {"cluster-enabled": "yes", "repl-diskless-sync-delay": 0}
    nodes = [BridgedServer(binary, config=config) for _ in range(shards)]
    try:
        for number, node in enumerate(nodes):
            node.start()
            client: Any = node.client()
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for first, last in even_ranges(shards)[number]:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "MEET", nodes[0].host, PORT)
        holds(lambda: all(_is_whole(it, shards) for it in nodes), "the cluster is whole")
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def _is_whole(node: BridgedServer, shards: int) -> bool:
    client: Any = node.client()
    info = client.cluster("info")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == shards
