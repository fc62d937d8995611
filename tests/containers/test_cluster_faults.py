"""A server's data and writes into a cluster of containers, a node of it paused, partitioned, killed: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from engine.endpoint import parse_endpoint
from engine.settings import SourceSettings, SpoolSettings, TargetSettings
from engine.supervision.states import TaskState
from tests.fix_container_groups import ContainerCluster, Node, wait_for
from tests.fix_containers import ContainerServer, need_engine
from tests.fix_servers import BINARIES
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import Elsewhere, differences
from tests.live.running_task import MIB, make_settings, running
from tests.live.sides import offset_of
from tests.live.world import AOF, SOURCE_CONFIG

pytestmark = [pytest.mark.live, pytest.mark.faults, pytest.mark.containers, pytest.mark.slow]

SERVER = "redis-8.2"
SILENCE_SECONDS = 2


class Fault(Protocol):
    """On the way in it breaks the node, on the way out it repairs it."""

    def __call__(self, node: Node) -> AbstractContextManager[None]: ...


@contextmanager
def partitioned(node: Node) -> Iterator[None]:
    node.cut()
    yield
    node.mend()


@contextmanager
def paused(node: Node) -> Iterator[None]:
    node.pause()
    yield
    node.unpause()


@contextmanager
def killed(node: Node) -> Iterator[None]:
    node.kill()
    yield
    node.start()


@pytest.mark.parametrize(
    ("fault", "replicas"),
    [(paused, 0), (partitioned, 0), (killed, 0), (partitioned, 1)],
    ids=["paused", "partitioned", "killed", "partitioned-with-failover"],
)
async def test_a_faulty_node_of_the_target_costs_nothing(
    fault: Fault, replicas: int, tmp_path: Path
) -> None:
    need_engine()
    if SERVER not in BINARIES:
        pytest.skip(f"no {SERVER} on this machine")
    source = ContainerServer(BINARIES[SERVER], config=SOURCE_CONFIG).start()
    try:
        with (
            ContainerCluster(BINARIES[SERVER], replicas=replicas, config=AOF) as cluster,
            ClusterLoad(source) as load,
        ):
            load.has_written(1000)
            async with running(settings_to(source, cluster, tmp_path)) as run:
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
                await asyncio.to_thread(load.has_written, 1000)
                other, victim = cluster.nodes[:2]
                with fault(victim):
                    if replicas:
                        await asyncio.to_thread(
                            wait_for, lambda: cluster.nodes[4] in cluster.primaries(), "failover"
                        )
                    else:
                        await asyncio.to_thread(
                            wait_for, lambda: cluster.state_at(other) == "fail", "it is missed"
                        )
                    await run.reaches(
                        lambda: TaskState.RECOVERING in run.states, "the worker notices"
                    )
                    await asyncio.to_thread(load.has_written, 500)
                await asyncio.to_thread(cluster.is_whole)
                await asyncio.to_thread(load.has_written, 500)
                await asyncio.to_thread(load.stop)
                await run.reaches_offset(offset_of(source))
                status = run.task.status()
                assert (status.full_resyncs, status.source_reconnects) == (1, 0)
                assert status.target_reconnects > 0
            one = Elsewhere(((source.host, source.port),))
            two = Elsewhere(tuple((it.host, it.port) for it in cluster.primaries()))
            assert await asyncio.to_thread(differences, one, two) == []
    finally:
        source.stop()


def move_slots(cluster: ContainerCluster, slots: range, origin: Node, to: Node) -> None:
    """One after the other, with MIGRATE, as redis-cli reshards."""
    with origin.client() as giver, to.client() as taker:
        names = [bytes(it.execute_command("CLUSTER", "MYID")).decode() for it in (giver, taker)]
        others = [it.client() for it in cluster.nodes if it not in {origin, to}]
        for slot in slots:
            taker.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
            giver.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
            while keys := giver.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                giver.execute_command(
                    "MIGRATE", to.host, to.port, "", 0, 5000, "REPLACE", "KEYS", *keys
                )
            for client in (taker, giver, *others):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[1])
        for client in others:
            client.close()


async def test_slots_that_move_between_containers_cost_nothing(tmp_path: Path) -> None:
    need_engine()
    if SERVER not in BINARIES:
        pytest.skip(f"no {SERVER} on this machine")
    source = ContainerServer(BINARIES[SERVER], config=SOURCE_CONFIG).start()
    try:
        with ContainerCluster(BINARIES[SERVER]) as cluster, ClusterLoad(source) as load:
            load.has_written(1000)
            async with running(settings_to(source, cluster, tmp_path)) as run:
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
                one, other = cluster.nodes[:2]
                await asyncio.to_thread(move_slots, cluster, range(400), one, other)
                await asyncio.to_thread(move_slots, cluster, range(100), other, one)
                await asyncio.to_thread(load.has_written, 500)
                await asyncio.to_thread(load.stop)
                await run.reaches_offset(offset_of(source))
                status = run.task.status()
                assert (status.full_resyncs, status.reconnects) == (1, 0)
                assert min(status.slot_waits, status.topology_changes) > 0
            sides = (
                Elsewhere(((source.host, source.port),)),
                Elsewhere(tuple((it.host, it.port) for it in cluster.primaries())),
            )
            assert await asyncio.to_thread(differences, *sides) == []
    finally:
        source.stop()


def settings_to(source: ContainerServer, cluster: ContainerCluster, folder: Path):
    """A task that notices silence soon."""
    url = "redis://" + ",".join(f"{it.host}:{it.port}" for it in cluster.nodes[:3])
    return make_settings(
        source.endpoint,
        parse_endpoint(url, role="target"),
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder / "t1"),
        source_link=SourceSettings(connect_timeout_seconds=2, handshake_timeout_seconds=20),
        target_link=TargetSettings(
            connect_timeout_seconds=2, reply_timeout_seconds=SILENCE_SECONDS
        ),
    )
