"""What a cluster's users must be permitted: a source CLUSTER NODES, a target any of the three maps."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.endpoint import Endpoint, parse_endpoint
from engine.errors import SourceAuthError
from engine.supervision.states import TaskState
from tests.control.test_cluster_cli import ferry
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import keys_of_ours, offset_of
from tests.live.test_acl import denied, documented, permit
from tests.servers.cluster import PATIENT, RunningCluster, even_ranges

pytestmark = pytest.mark.live
NAMES = [it for it in ("redis-6.2", "redis-8.2", "valkey-9.1") if it in BINARIES]
NEEDED = "+cluster|nodes"


def user_of(cluster: RunningCluster, side: str, *rules: str) -> Endpoint:
    """The documented user of a server on every node, with further rules."""
    for node in cluster.nodes:
        permit(node.server, [*documented(side), *rules])
    url = parse_endpoint(cluster.url, role="source" if side == "source" else "target")
    return replace(url, username="ferry", password="password")


@pytest.mark.parametrize("name", NAMES)
async def test_a_source_that_does_not_permit_its_nodes_is_refused_before_anything_is_written(
    name: str, start_server: StartServer
) -> None:
    """SHARDS and SLOTS tell neither slots in motion nor epochs."""
    target = start_server("redis-8.2")
    with RunningCluster(BINARIES[name], replicas=0, config=PATIENT) as source:
        with ClusterLoad(source) as load:
            load.has_written(500)
        others = ("+cluster|shards", "+cluster|slots")
        for rules in (others, (*others, "-info")):
            endpoint = user_of(source, "source", *rules)
            one_node = replace(endpoint, more=())
            for url in (endpoint, one_node):
                run = Run(make_settings(url, target.endpoint))
                with pytest.raises(SourceAuthError, match="does not permit its cluster map") as it:
                    await run.future
                assert NEEDED in it.value.hint
                assert not run.task.wrote_to_target
        login = source.url.replace("redis://", "redis://ferry:password@")
        ended = await asyncio.to_thread(ferry, "sync", login, target.url, "--exit-when-synced")
        assert ended.returncode == 3, ended.stderr
        assert NEEDED in ended.stderr
        with target.client() as client:
            assert client.dbsize() == 0
        assert not keys_of_ours(target)
        # With it, and without INFO, it is known as a cluster all the same.
        endpoint = user_of(source, "source", NEEDED)
        async with running(make_settings(endpoint, target.endpoint)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            assert len(run.task.status().lines) == 3
            await run.reaches(lambda: differences(source, target) == [], "equal")


async def test_a_server_that_permits_no_info_is_no_cluster(start_server: StartServer) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    endpoint = permit(source, [*documented("source"), "-info"])
    async with running(make_settings(endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        assert [it.name for it in run.task.status().lines] == ["0"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("redis-6.2", "+cluster|slots"),
        ("redis-8.2", "+cluster|shards"),
        ("redis-8.2", "+cluster|slots"),
        ("valkey-9.1", "+cluster|shards"),
    ],
)
async def test_a_target_is_followed_by_the_map_it_permits(
    name: str, rule: str, start_server: StartServer
) -> None:
    source = start_server("redis-6.2")
    with (
        RunningCluster(BINARIES[name], layout=even_ranges(2)) as target,
        ClusterLoad(source) as load,
    ):
        endpoint = user_of(target, "target", rule, "+command")
        settings = make_settings(source.endpoint, endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 1000)
            first, second = target.primaries()
            # A slot moves, and a shard gets another primary.
            await asyncio.to_thread(target.move_slot, 100, second)
            await asyncio.to_thread(load.has_written, 1000)
            replica = target.replicas_of(first)[0]
            await asyncio.to_thread(target.promote, replica)
            await asyncio.to_thread(load.has_written, 1000)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.topology_changes >= 1
            assert status.target_reconnects >= 1
            assert status.full_resyncs == 1
            assert await asyncio.to_thread(differences, source, target) == []
        # NODES was tried, and the one that is permitted taken.
        assert any("cluster" in text for it in target.running for text in denied(it.server))
