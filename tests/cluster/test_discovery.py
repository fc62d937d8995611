"""Whose map of a cluster is believed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cluster.discovery import ask_cluster_map
from engine.cluster.topology import read_nodes
from engine.endpoint import parse_endpoint
from engine.errors import TargetNotReady
from engine.supervision.states import TaskState
from tests.conditions import holds
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import running
from tests.live.sides import offset_of
from tests.live.test_cluster_target import CONFIG, settings_to
from tests.servers.cluster import ClusterNode, RunningCluster
from tests.servers.provider import provider

NAMES = [it for it in ("redis-6.2", "redis-8.2", "valkey-9.1") if it in BINARIES]
DROP_ALL = -2
WHOLE = """\
a 127.0.0.1:1@1 myself,master - 0 0 1 connected 0-5460
b 127.0.0.1:2@2 master{b} - 0 0 2 connected 5461-10922
c 127.0.0.1:3@3 master{c} - 0 0 3 connected 10923-16383
d 127.0.0.1:4@4 slave a 0 0 1 connected
"""


@pytest.mark.parametrize(
    ("flags", "sees", "unserved"),
    [
        ({"b": "", "c": ""}, True, 0),
        ({"b": ",fail?", "c": ""}, True, 0),
        ({"b": ",fail?", "c": ",fail?"}, False, 0),
        ({"b": ",fail", "c": ""}, True, 5462),
        ({"b": ",fail", "c": ",fail?"}, False, 5462),
    ],
)
def test_a_majority_is_reached_or_not(flags: dict[str, str], sees: bool, unserved: int) -> None:
    found = read_nodes(WHOLE.format(**flags), "127.0.0.1")
    assert (found.sees_majority, found.unserved) == (sees, unserved)


def test_a_node_that_knows_of_no_slots_reaches_nobody() -> None:
    alone = read_nodes("a :1@1 myself,master - 0 0 0 connected\n", "127.0.0.1")
    assert not alone.sees_majority


@pytest.mark.live
@pytest.mark.parametrize("name", NAMES)
async def test_a_node_that_was_removed_is_passed_over(name: str, start_server: StartServer) -> None:
    """`redis-cli --cluster del-node` resets it, and it runs on; scripts still name it first."""
    removed = start_server(name, config={"cluster-enabled": "yes"}, port=provider().cluster_port())
    with RunningCluster(BINARIES[name], replicas=0) as cluster:
        others = cluster.url.removeprefix("redis://")
        url = parse_endpoint(f"redis://127.0.0.1:{removed.port},{others}", role="target")
        found = await ask_cluster_map(url, role="target", timeout_seconds=5)
        assert found is not None
        assert found.unserved == 0
        assert {it.primary.node_id for it in found.shards} == {it.node_id for it in cluster.nodes}
        alone = await ask_cluster_map(
            replace(url, more=()), role="target", timeout_seconds=5
        )  # nobody has a better one
        assert alone is not None
        assert alone.unserved == 16384


@pytest.mark.live
@pytest.mark.faults
@pytest.mark.skipif("valkey-9.1" not in BINARIES, reason="no server that can be cut off so")
async def test_a_primary_that_is_cut_off_from_its_cluster_is_left(
    start_server: StartServer, tmp_path: Path
) -> None:
    """It answers as before, calls itself a primary, and turns every command down."""
    source = start_server("valkey-9.1", config=CONFIG)
    with RunningCluster(BINARIES["valkey-9.1"]) as target, ClusterLoad(source, rate=500) as load:
        load.has_written(500)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 500)
            victim = target.primaries()[0]
            (replica,) = target.replicas_of(victim)
            others = [it for it in target.nodes if it is not victim]

            def knows(node: ClusterNode) -> bool:
                return replica.node_id in {it.primary.node_id for it in node.map().shards}

            victim.ask("DEBUG", "DROP-CLUSTER-PACKET-FILTER", DROP_ALL)
            await asyncio.to_thread(holds, lambda: all(map(knows, others)), "it is replaced")
            await asyncio.to_thread(
                holds, lambda: not victim.map().sees_majority, "it sees that it is alone"
            )
            before = run.task.status().applied_offset
            await run.reaches(lambda: run.task.status().applied_offset > before, "applying again")
            assert not victim.map().sees_majority
            assert not knows(victim)
            status = run.task.status()
            assert status.retries.get(TargetNotReady.__name__, 0) + status.target_reconnects > 0
            victim.ask("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1)
            await asyncio.to_thread(load.stop)
            await asyncio.to_thread(target.is_ok)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.full_resyncs == 1
            assert status.target_reconnects > 0
            assert await asyncio.to_thread(differences, source, target) == []
