"""What the servers of a test run as: processes of this machine, or containers (`pytest --servers=containers`, containers.py)."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engine.demo.servers import RunningServer, ServerBinary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BUS_DISTANCE = 10_000
PORTS = range(21_000, 31_000)


class MakeServer(Protocol):
    """As RunningServer is made."""

    def __call__(
        self,
        binary: ServerBinary,
        *,
        config: Mapping[str, str | int | Sequence[str | int]] | None = None,
        port: int | None = None,
    ) -> RunningServer: ...


class MakeSentinel(Protocol):
    """text: its file, without what is of the server itself (port, bind, password)."""

    def __call__(
        self, binary: ServerBinary, text: str, *, requirepass: str | None
    ) -> RunningServer: ...


@dataclass(frozen=True)
class Provider:
    """How servers are made; all of one provider reach each other, and are reached from here, at 127.0.0.1 and their ports.

    cluster_port: a port that is free together with its bus port.
    """

    server: MakeServer
    sentinel: MakeSentinel
    cluster_port: Callable[[], int]


def sentinel_file(server: RunningServer, text: str, *, bind: str) -> str:
    """A Sentinel's whole configuration."""
    password = "" if server.password is None else f"requirepass {server.password}\n"
    return f"port {server.port}\nbind {bind}\nprotected-mode no\n{password}{text}"


class SentinelProcess(RunningServer):
    """The same binary with --sentinel and a file that it may write to."""

    def __init__(self, binary: ServerBinary, text: str, *, requirepass: str | None) -> None:
        super().__init__(binary, config={} if requirepass is None else {"requirepass": requirepass})
        self._text = text

    def _command(self) -> list[str]:
        path = self.directory / "sentinel.conf"
        if not path.exists():
            path.write_text(sentinel_file(self, self._text, bind="127.0.0.1"))
        return [str(self.binary.path), str(path), "--sentinel"]


def free_cluster_port() -> int:
    """A port of this machine that is free together with its bus port."""
    for _ in range(200):
        port = random.choice(PORTS)
        try:
            with socket.socket() as one, socket.socket() as other:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + BUS_DISTANCE))
        except OSError:
            continue
        return port
    raise AssertionError("no free pair of ports")


PROCESSES = Provider(RunningServer, SentinelProcess, free_cluster_port)
_chosen = [PROCESSES]


def provider() -> Provider:
    """The one in use: processes, but within `use`."""
    return _chosen[-1]


@contextmanager
def use(one: Provider) -> Iterator[None]:
    """All servers made within the block are of `one`."""
    _chosen.append(one)
    try:
        yield
    finally:
        _chosen.pop()
