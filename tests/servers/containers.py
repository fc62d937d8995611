"""Servers in containers that find each other on 127.0.0.1, as processes do: what `pytest --servers=containers` starts.

Each server has a container of its own, so that it is killed, paused and started again alone; all of a test run share the
network of one more container, the ground. It publishes each of its ports under the same number on this machine's loopback,
so an address that a node announces is right for the other nodes and for the worker here.
"""

from __future__ import annotations

import random
import socket
import threading
import uuid
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from engine.demo.servers import ServerBinary, find_servers
from tests.fix_containers import ContainerServer, image_of, need_engine, put_file
from tests.servers.provider import Provider, sentinel_file, use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Bus ports are 10000 above: neither these nor those are among the ports that the kernel gives to clients (from 32768).
PORTS = range(11_000, 21_000)
# Two clusters of three primaries with replicas, a Sentinel trio, and some more.
PUBLISHED = 48
ATTEMPTS = 5
SENTINEL_FILE = "/data/sentinel.conf"


class Ground:
    """The network of a test run's containers; it is started when the first port is taken.

    name: of its container; the others' names begin with it.
    """

    def __init__(self) -> None:
        self.name = f"redis-ferry-ground-{uuid.uuid4().hex[:12]}"
        self._container: Any = None
        self._ports: frozenset[int] = frozenset()
        self._free: deque[int] = deque()  # the one given back last is taken last
        self._lock = threading.Lock()

    @property
    def network_mode(self) -> str:
        return f"container:{self._container.id}"

    def take(self) -> int:
        """A published port that no server has."""
        with self._lock:
            if self._container is None:
                self._start()
            assert self._free, f"a test has more than {PUBLISHED} servers"
            return self._free.popleft()

    def take_again(self, port: int) -> None:
        """One that was taken before; it may have been given back since."""
        with self._lock:
            assert port in self._ports, f"{port} is not a port that provider().cluster_port() gave"
            if port in self._free:
                self._free.remove(port)

    def give_back(self, port: int) -> None:
        with self._lock:
            self._free.append(port)

    def _start(self) -> None:
        import docker

        binary = next(iter(find_servers().values()))
        for attempt in range(1, ATTEMPTS + 1):
            ports = _free_ports()
            container = need_engine().containers.create(
                image_of(binary),
                # It has nothing to do but to be there.
                ["--port", "0", "--unixsocket", "/data/ground.sock", "--save", ""],
                name=self.name,
                entrypoint=[f"/usr/local/bin/{binary.product}-server"],
                ports={f"{port}/tcp": ("127.0.0.1", port) for port in ports},
            )
            try:
                container.start()
            except docker.errors.APIError:  # somebody took a port between our look and the start
                container.remove(force=True, v=True)
                if attempt == ATTEMPTS:
                    raise
            else:
                self._container = container
                self._ports, self._free = frozenset(ports), deque(ports)
                return

    def remove(self) -> None:
        if self._container is not None:
            self._container.remove(force=True, v=True)
            self._container = None


def _free_ports() -> list[int]:
    found = []
    for port in random.sample(PORTS, 4 * PUBLISHED):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found[:PUBLISHED]


class GroundServer(ContainerServer):
    """A server on the ground. It has its port until stop()."""

    def __init__(
        self,
        binary: ServerBinary,
        *,
        ground: Ground,
        config: Mapping[str, str | int | Sequence[str | int]] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(binary, config=config, port=port)
        self.ground = ground
        self._has_port = port is not None

    def _create(self) -> None:
        if self._port_is_chosen:
            self.ground.take_again(self.port)
        else:
            self.port = self.ground.take()
            self._port_is_chosen = True  # a restart keeps the address
        self._has_port = True
        self._container = need_engine().containers.create(
            image_of(self.binary),
            self._arguments(),
            name=f"{self.ground.name}-{self.port}",
            entrypoint=[f"/usr/local/bin/{self.binary.product}-server"],
            network_mode=self.ground.network_mode,
        )
        for path, text in self._files().items():
            put_file(self._container, path, text)
        self._container.start()

    @property
    def _listens_on(self) -> int:
        return self.port

    def _files(self) -> dict[str, str]:
        """What is put into the container before its first start."""
        return {}

    def stop(self) -> None:
        super().stop()
        if self._has_port:
            self.ground.give_back(self.port)
            self._has_port = False

    def pause(self) -> None:
        # Not the engine's pause: it kills no container that is paused.
        self._container.kill(signal="SIGSTOP")

    def unpause(self) -> None:
        if self.is_running:
            self._container.kill(signal="SIGCONT")

    def cut(self) -> NoReturn:
        pytest.skip("needs a network of its own, and the containers of this run share one")


class GroundSentinel(GroundServer):
    """The same with --sentinel and a file that it may write to."""

    def __init__(
        self, binary: ServerBinary, text: str, *, ground: Ground, requirepass: str | None
    ) -> None:
        config = {} if requirepass is None else {"requirepass": requirepass}
        super().__init__(binary, ground=ground, config=config)
        self._text = text

    def _arguments(self) -> list[str]:
        return [SENTINEL_FILE, "--sentinel"]

    def _files(self) -> dict[str, str]:
        return {SENTINEL_FILE: sentinel_file(self, self._text, bind="0.0.0.0")}


@contextmanager
def containers() -> Iterator[None]:
    """All servers made within the block are containers; the ground goes at its end."""
    ground = Ground()
    try:
        with use(
            Provider(
                partial(GroundServer, ground=ground),
                partial(GroundSentinel, ground=ground),
                ground.take,
            )
        ):
            yield
    finally:
        ground.remove()
