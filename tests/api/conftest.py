"""Fixtures of the API tests: one service and one pair of servers for each module that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.demo.servers import RunningServer
from tests.api.served import ServedWorker
from tests.fix_servers import BINARIES

SOURCE, TARGET = "redis-8.2", "redis-8.2"
SOURCE_CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "32mb"}


def need(name: str) -> None:
    if name not in BINARIES:
        pytest.skip(f"no {name} on this machine")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWorker]:
    """A service with tokens and keys, and a folder for backups."""
    folder: Path = tmp_path_factory.mktemp("served")
    (folder / "backups").mkdir()
    with ServedWorker(folder, "--backup-dir", str(folder / "backups")) as served:
        yield served


@pytest.fixture
def client(worker: ServedWorker) -> Iterator[httpx.Client]:
    with worker.client() as client:
        yield client


@pytest.fixture(scope="module")
def source() -> Iterator[RunningServer]:
    need(SOURCE)
    with RunningServer(
        BINARIES[SOURCE], config=SOURCE_CONFIG | {"requirepass": "s0urce pass"}
    ) as it:
        yield it


@pytest.fixture(scope="module")
def target() -> Iterator[RunningServer]:
    need(TARGET)
    with RunningServer(BINARIES[TARGET], config={"requirepass": "t@rget'pass"}) as it:
        yield it


@pytest.fixture
def filled(source: RunningServer, target: RunningServer) -> int:
    """The source has so many keys, the target none."""
    with source.client() as client, target.client() as other:
        client.flushall()
        other.flushall()
        client.mset({f"key:{number}": number for number in range(500)})
    return 500
