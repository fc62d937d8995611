"""The cluster and the Sentinel group in containers are real ones: they notice faults and deal with them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from deploy.local_images import make_server
from engine.demo.servers import ServerBinary
from tests.fix_container_groups import ContainerCluster, ContainerSentinel, wait_for
from tests.fix_containers import engine, need_engine
from tests.fix_servers import BINARIES

pytestmark = [pytest.mark.live, pytest.mark.containers]
SERVER = "redis-8.2"


@pytest.fixture
def binary() -> Iterator[ServerBinary]:
    need_engine()
    if SERVER not in BINARIES:
        pytest.skip(f"no {SERVER} on this machine")
    before = {it.id for it in engine().containers.list(all=True, ignore_removed=True)}
    networks = {it.id for it in engine().networks.list()}
    yield BINARIES[SERVER]
    left = {
        it for it in engine().containers.list(all=True, ignore_removed=True) if it.id not in before
    }
    assert [it.name for it in left if "redis-ferry-group" in it.name] == []
    assert [
        it.name
        for it in engine().networks.list()
        if it.id not in networks and "redis-ferry-group" in it.name
    ] == []


def test_a_cluster_serves_all_slots_fails_without_a_node_and_is_whole_again(
    binary: ServerBinary,
) -> None:
    with ContainerCluster(binary) as cluster:
        with cluster.client() as client:
            for number in range(100):
                client.set(f"key:{number}", number)
        sizes = []
        for node in cluster.nodes:
            with node.client() as client:
                sizes.append(client.dbsize())
        assert sum(sizes) == 100
        assert min(sizes) > 0

        first, _, cut = cluster.nodes
        address = cut.host
        cut.cut()
        wait_for(lambda: cluster.state_at(first) == "fail", "the others miss it")
        cut.mend()
        wait_for(lambda: cluster.state_at(first) == "ok", "the cluster is whole again")
        assert cut.host == address


def test_a_sentinel_promotes_the_replica_when_the_primary_is_killed(binary: ServerBinary) -> None:
    with ContainerSentinel(binary) as group:
        with group.primary.client() as client:
            client.set("key", "value")
            assert client.wait(1, 5000) == 1
        assert group.primary_address() == (group.primary.host, group.primary.port)
        replica = (group.replica.host, group.replica.port)

        group.primary.kill()

        wait_for(lambda: group.primary_address() == replica, "the replica is the primary")
        with group.replica.client() as client:
            assert client.role()[0] == b"master"
            assert client.get("key") == b"value"


def test_an_image_that_is_of_the_same_binary_is_not_made_again(binary: ServerBinary) -> None:
    tag = f"redis-ferry-test:{uuid.uuid4().hex[:8]}"
    try:
        made = [engine().images.get(make_server(binary.name, tag)).id for _ in range(2)]
        assert made[0] == made[1]
    finally:
        engine().images.remove(tag)
