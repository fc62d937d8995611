"""A value of a module that the target lacks: left out and listed, or a reason to stop, alike on a server and on a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.endpoint import parse_endpoint
from engine.errors import TargetRejected
from engine.replay.refused_keys import read_refused
from engine.settings import Method, SpoolSettings, UnsupportedPolicy
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import everything
from tests.live.running_task import make_settings, migrate
from tests.servers.cluster import RunningCluster

pytestmark = pytest.mark.live
SOURCE, TARGET = "redis-8.2", "redis-6.2"  # vector sets are a module that comes with 8


@contextlib.contextmanager
def target_of(start_server: StartServer, *, is_cluster: bool) -> Iterator[tuple[Any, Any]]:
    if not is_cluster:
        server = start_server(TARGET)
        yield server, server.endpoint
        return
    with RunningCluster(BINARIES[TARGET], replicas=0) as cluster:
        yield cluster, parse_endpoint(cluster.url, role="target")


@pytest.mark.skipif({SOURCE, TARGET} - set(BINARIES) != set(), reason="a server is missing")
@pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])
@pytest.mark.parametrize("policy", list(UnsupportedPolicy))
async def test_a_module_value_that_the_target_cannot_load(
    policy: UnsupportedPolicy, is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(SOURCE)
    with source.client() as client:
        for number in range(300):
            client.set(f"key:{number}", number)
        for number in range(3):
            client.execute_command("VADD", f"vectors:{number}", "VALUES", 2, 1, 2, "one")
    with target_of(start_server, is_cluster=is_cluster) as (target, endpoint):
        settings = make_settings(
            source.endpoint,
            endpoint,
            method=Method.FULL,
            on_unsupported=policy,
            spool=SpoolSettings(directory=tmp_path),
        )
        if policy is not UnsupportedPolicy.SKIP:
            with pytest.raises(TargetRejected, match=r"vectors:\d"):
                await migrate(settings)
            return
        task = await migrate(settings)
        assert task.state is TaskState.DONE
        assert task.status().refused == 3
        found, expected = everything(target), everything_but_vectors(source)
        assert found == expected
    total, rows = read_refused(tmp_path, offset=0, limit=10)
    assert total == 3
    assert {it["key"] for it in rows} == {f"vectors:{number}" for number in range(3)}


def everything_but_vectors(source: Any) -> dict[bytes, Any]:
    with source.client() as client:
        client.delete(*client.keys("vectors:*"))
    return everything(source)
