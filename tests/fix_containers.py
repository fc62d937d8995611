"""Servers in containers, behind the interface of engine/demo/servers.py, and faults that only containers can have.

Those that `pytest --servers=containers` runs the suite on are in tests/servers/containers.py. Images: the variable
TEST_IMAGE_REDIS_8_2 (and so on) names one; else the official one if the engine has it or can pull it; else one made of the
binary of this machine (deploy/local_images.py).
"""

from __future__ import annotations

import gc
import io
import os
import tarfile
import threading
import time
import uuid
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from deploy.local_images import ImageError, make_server
from engine.demo.servers import RunningServer, ServerBinary, ServerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OFFICIAL = {"redis": "redis", "valkey": "valkey/valkey"}
RYUK = "testcontainers/ryuk"
PORT = 6379
START_SECONDS = 20.0
ENGINE_TIMEOUT_SECONDS = 60


@cache
def engine() -> Any:
    """The Docker engine's client; None where none answers."""
    try:
        import docker
    except ModuleNotFoundError:
        return None
    client = None
    # Where nothing listens, docker's client leaves a socket to the garbage collector, whose warning would fail another test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env(timeout=ENGINE_TIMEOUT_SECONDS)
            client.ping()
        except docker.errors.DockerException:
            client = None
        gc.collect()
    return client


def need_engine() -> Any:
    """The engine's client; skips the test where none answers."""
    if engine() is None:
        pytest.skip("no Docker engine answers (or the package docker is not there)")
    return engine()


_one_at_a_time = threading.Lock()


def image_of(binary: ServerBinary) -> str:
    """The image to run for a server."""
    with _one_at_a_time:  # nodes are started side by side, and one image is enough
        return _image_of(binary)


@cache
def _image_of(binary: ServerBinary) -> str:
    import docker

    chosen = os.environ.get(f"TEST_IMAGE_{binary.name.upper().replace('-', '_').replace('.', '_')}")
    if chosen:
        return chosen
    official = f"{OFFICIAL[binary.product]}:{binary.name.partition('-')[2]}"
    try:
        engine().images.get(official)
    except docker.errors.ImageNotFound:
        try:
            engine().images.pull(official)
        except docker.errors.APIError:  # no registry can be reached
            try:
                return make_server(binary.name)
            except ImageError as error:
                pytest.skip(f"no image of {binary.name}: {error}")
    return official


def _testcontainers() -> Any:
    """testcontainers' container, without its reaper where the reaper's image is not at hand."""
    # Read at import. A published port is on loopback; inside a container it would look for the gateway's.
    os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    os.environ.setdefault("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
    if not any(RYUK in tag for image in engine().images.list() for tag in image.tags):
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer

    return DockerContainer


def put_file(container: Any, path: str, text: str) -> None:
    """Write a file, which the server may change, into a container before its start."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode, entry.uid = len(text), 0o666, 65534
        tar.addfile(entry, io.BytesIO(text.encode()))
    container.put_archive("/", packed.getvalue())


class ContainerServer(RunningServer):
    """A server in a container of its own, on a port of loopback. kill, start, stop as of a process; its data stay until stop.

    `pause` and `cut` are the faults of a container: a frozen one, and one without a network. `pid` is the server's on this
    machine. What needs its files or its unix socket skips the test.
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        config: Mapping[str, str | int | Sequence[str | int]] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(binary, config=config, port=port)
        self._container: Any = None
        self._network: Any = None

    @property
    def directory(self) -> Path:
        _not_of_containers("files")

    @property
    def unix_path(self) -> str | None:
        _not_of_containers("unix socket")

    @property
    def pid(self) -> int:
        return int(self._state()["Pid"])

    @property
    def is_running(self) -> bool:
        return self._container is not None and bool(self._state()["Running"])

    def _state(self) -> dict[str, Any]:
        self._container.reload()
        return dict(self._container.attrs["State"])

    def start(self) -> ContainerServer:
        if self._container is not None:
            self._container.start()
        else:
            self._create()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.is_running or time.monotonic() > deadline:
                log = self._container.logs(tail=15).decode(errors="replace")
                self.stop()
                raise ServerStartError(
                    f"{self.binary.name} in a container did not answer", detail=log
                )
            time.sleep(0.01)
        return self

    def _create(self) -> None:
        if not self._port_is_chosen:
            from engine.demo.servers import _free_port

            self.port = _free_port()
            self._port_is_chosen = True
        self._network = engine().networks.create(f"redis-ferry-test-{uuid.uuid4().hex[:12]}")
        container = (
            _testcontainers()(image_of(self.binary))
            .with_command(self._arguments())
            .with_kwargs(
                entrypoint=[f"/usr/local/bin/{self.binary.product}-server"],
                network=self._network.name,
            )
        )
        # Its own method for this publishes to all addresses of the machine.
        container.ports = {f"{PORT}/tcp": ("127.0.0.1", self.port)}
        try:
            self._container = container.start().get_wrapped_container()
        except BaseException:
            container.stop()
            self._network.remove()
            raise

    @property
    def _listens_on(self) -> int:
        """Its port within the container."""
        return PORT

    def _arguments(self) -> list[str]:
        options: dict[str, str | int | Sequence[str | int]] = {
            "port": self._listens_on, "bind": "0.0.0.0", "save": "", "appendonly": "no", "protected-mode": "no", "dir": "/data",
        }  # fmt: skip
        if self.binary.version_numbers >= (7, 0, 0):
            options["shutdown-timeout"] = 0
        words = []
        for name, value in (options | self.config).items():
            values = [value] if isinstance(value, str | int) else value
            words += [f"--{name}", *map(str, values)]
        return words

    def _answers(self) -> bool:
        import redis
        from redis.exceptions import NoPermissionError

        client = self.client(timeout_seconds=0.5)
        try:
            return bool(client.ping())
        except (redis.AuthenticationError, NoPermissionError):
            return True  # alive; users and passwords other than requirepass are the caller's
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()

    def kill(self) -> None:
        import docker

        if self.is_running:
            try:
                self._container.kill()
            except docker.errors.APIError:  # it may end by itself meanwhile
                if self.is_running:
                    raise
            self._container.wait()

    def stop(self) -> None:
        if self._container is not None:
            self._container.remove(force=True, v=True)
            self._container = None
        if self._network is not None:
            self._network.remove()
            self._network = None

    # ---- faults

    def pause(self) -> None:
        """Freeze all processes of the container."""
        self._container.pause()

    def unpause(self) -> None:
        self._container.unpause()

    def cut(self) -> None:
        """Take it off its network: what is sent to it is lost, its connections stay open and silent."""
        self._network.disconnect(self._container)

    def mend(self) -> None:
        """Put it back, and wait until it can be reached."""
        self._network.connect(self._container)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "the container did not come back to its network"
            time.sleep(0.01)


def _not_of_containers(what: str) -> NoReturn:
    pytest.skip(f"needs the server's {what}, which a container does not share")
