"""Fixtures for tests against real servers, and which servers and pairs of them there are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from engine.demo.servers import RunningServer, ServerBinary, find_servers
from tests.servers.containers import containers
from tests.servers.provider import provider

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VALKEY_FORK = (7, 2, 4)  # Valkey begins with this Redis: RDB 11
HASH_FIELD_TTL = {"redis": (7, 4, 0), "valkey": (9, 0, 0)}


def _age(binary: ServerBinary) -> tuple[int, tuple[int, int, int]]:
    """Order by what a server can hold: Redis up to the fork, Valkey 8, later Redis, Valkey 9."""
    if binary.product == "redis":
        return (0 if binary.version_numbers <= VALKEY_FORK else 2), binary.version_numbers
    return (1 if binary.version_numbers < HASH_FIELD_TTL["valkey"] else 3), binary.version_numbers


def takes(source: ServerBinary, target: ServerBinary) -> bool:
    """Whether `target` can hold every core type that `source` has, with RESTORE of its values.

    Redis from 7.4 and Valkey from 9.0 differ in hash field TTLs, so neither goes into
    the other here.
    """
    if source.product == target.product:
        return source.version_numbers <= target.version_numbers
    has_field_ttl = source.version_numbers >= HASH_FIELD_TTL[source.product]
    return not has_field_ttl and _age(source) < _age(target)


BINARIES = dict(sorted(find_servers().items(), key=lambda it: _age(it[1])))
SERVER_NAMES = list(BINARIES)  # oldest first
PAIRS = [
    (source, target)
    for source in SERVER_NAMES
    for target in SERVER_NAMES
    if takes(BINARIES[source], BINARIES[target])
]


class StartServer(Protocol):
    """`start_server(name, config=…)`: a running server; skips the test where there is no such."""

    def __call__(
        self,
        name: str,
        *,
        config: Mapping[str, str | int | Sequence[str | int]] | None = None,
        port: int | None = None,
    ) -> RunningServer: ...


@pytest.fixture(scope="session")
def server_binaries() -> dict[str, ServerBinary]:
    """Every server of this machine by name, oldest first."""
    return BINARIES


@pytest.fixture(scope="session", autouse=True)
def _provider(pytestconfig: pytest.Config) -> Iterator[None]:
    """What every server, cluster and Sentinel trio of the run is made of."""
    if pytestconfig.getoption("--servers") == "containers":
        with containers():
            yield
    else:
        yield


@pytest.fixture
def start_server(server_binaries: dict[str, ServerBinary]) -> Iterator[StartServer]:
    """Start servers by name, as processes or (--servers=containers) in containers; all are stopped after the test."""
    running: list[RunningServer] = []

    def start(
        name: str,
        *,
        config: Mapping[str, str | int | Sequence[str | int]] | None = None,
        port: int | None = None,
    ) -> RunningServer:
        if name not in server_binaries:
            pytest.skip(f"no {name} on this machine")
        server = provider().server(server_binaries[name], config=config, port=port)
        running.append(server)
        return server.start()

    yield start
    for server in running:
        server.stop()
