"""Cluster and Sentinel tests of tests/live with every server in a container, as --servers=containers runs all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_containers import engine, need_engine
from tests.fix_servers import BINARIES, StartServer
from tests.live import test_cluster_pairs, test_cluster_target, test_sentinel
from tests.servers.cluster import RunningCluster, paused
from tests.servers.containers import Ground, GroundServer, containers

pytestmark = [pytest.mark.live, pytest.mark.faults, pytest.mark.containers]
SERVER = "redis-8.2"


def names_on(ground: Ground) -> list[str]:
    return [
        it.name
        for it in engine().containers.list(all=True, ignore_removed=True)
        if it.name.startswith(ground.name)
    ]


@pytest.fixture(scope="module", autouse=True)
def _in_containers() -> Iterator[None]:
    need_engine()
    if SERVER not in BINARIES:
        pytest.skip(f"no {SERVER} on this machine")
    with containers():
        yield


@pytest.mark.slow
async def test_a_cluster_goes_into_one_of_another_layout(tmp_path: Path) -> None:
    await test_cluster_pairs.test_a_pair_under_load_ends_equal("striped-5", "even-3", tmp_path)


async def test_a_primary_of_the_target_is_lost(start_server: StartServer, tmp_path: Path) -> None:
    await test_cluster_target.test_a_primary_is_lost_with_writes_that_its_replica_lacks(
        start_server, tmp_path
    )


async def test_the_source_of_a_sentinel_group_fails_over(start_server: StartServer) -> None:
    await test_sentinel.test_the_source_fails_over(SERVER, start_server)


def test_nodes_are_containers_with_the_face_of_processes() -> None:
    with containers():
        with RunningCluster(BINARIES[SERVER], replicas=0) as cluster:
            # The first process of a container has the number 1 there.
            numbers = [it.ask("INFO", "server")["process_id"] for it in cluster.nodes]
            assert numbers == [1, 1, 1]
            victim = cluster.nodes[1]
            assert isinstance(victim.server, GroundServer)
            ground = victim.server.ground
            assert len(names_on(ground)) == 4  # with the ground's own

            with paused(victim.server):
                victim.server.kill()
            assert cluster.running == [cluster.nodes[0], cluster.nodes[2]]
            victim.server.start()
            assert victim.ask("CLUSTER", "MYID").decode() == victim.node_id
            cluster.is_ok()

            added = cluster.add_node()
            cluster.move_slot(0, added)
            assert cluster.primary_of(0) is added
        ports = [it.server.port for it in cluster.nodes]
        with RunningCluster(BINARIES[SERVER], replicas=0) as cluster:
            assert {it.server.port for it in cluster.nodes}.isdisjoint(ports)
            assert len(names_on(ground)) == 4
    assert names_on(ground) == []
