"""Slots that move at the source as Valkey 9 moves them: in one piece, and the cluster's map shows it only when it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.codec.slots import key_slot
from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.errors import SourceRefused
from engine.settings import ClusterSettings, Method, SpoolSettings, TaskSettings
from engine.supervision.states import TaskState
from tests.conditions import holds
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences, everything
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.test_cluster_source import catches_up
from tests.servers.cluster import PATIENT, ClusterNode, RunningCluster

NAME = "valkey-9.1"
pytestmark = [
    pytest.mark.live,
    pytest.mark.faults,
    pytest.mark.skipif(NAME not in BINARIES, reason=f"no {NAME} on this machine"),
]
FIRST, LAST = 0, 3000
KEY_DELAY_MICROSECONDS = 50_000  # and some 150 keys are on their way
BOTH_TARGETS = pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])


def begin_migration(source: RunningCluster) -> ClusterNode:
    """Slots are on their way from the first shard to the second, which is returned; it takes long."""
    origin, to = source.primaries()[:2]
    origin.ask("CONFIG", "SET", "rdb-key-save-delay", KEY_DELAY_MICROSECONDS)
    origin.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", FIRST, LAST, "NODE", to.node_id)
    return to


def is_receiving(node: ClusterNode) -> bool:
    return b"receiving-snapshot" in node.ask("CLUSTER", "GETSLOTMIGRATIONS")[0]


@contextlib.contextmanager
def target_of(
    is_cluster: bool, start_server: StartServer
) -> Iterator[RunningServer | RunningCluster]:
    if not is_cluster:
        yield start_server(NAME)
        return
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as cluster:
        yield cluster


def settings_of(
    source: RunningCluster, target: RunningServer | RunningCluster, folder: Path, method: Method
) -> TaskSettings:
    return make_settings(
        parse_endpoint(source.url, role="source"),
        parse_endpoint(target.url, role="target"),
        method=method,
        # The shard that gives slots away has its hands full, and would keep the others waiting.
        cluster=ClusterSettings(snapshots_per_host=0),
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder),
    )


@BOTH_TARGETS
async def test_in_the_stream(is_cluster: bool, start_server: StartServer, tmp_path: Path) -> None:
    with (
        target_of(is_cluster, start_server) as target,
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as source,
        ClusterLoad(source) as load,
    ):
        load.has_written(1000)
        settings = settings_of(source, target, tmp_path / "t1", Method.INCREMENTAL)
        run = Run(settings)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        to = await asyncio.to_thread(begin_migration, source)
        with pytest.raises(SourceRefused, match="are moving: CLUSTER SYNCSLOTS ESTABLISH at"):
            await run.future
        assert run.task.state is TaskState.FAILED
        # The map did not tell: nothing had moved yet.
        assert source.primary_of(FIRST) is source.primaries()[0] is not to
        assert is_receiving(to)


@pytest.mark.parametrize(
    ("method", "is_cluster"), [(Method.FULL, False), (Method.INCREMENTAL, True)]
)
async def test_in_the_snapshot(
    method: Method, is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    with (
        target_of(is_cluster, start_server) as target,
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as source,
    ):
        with ClusterLoad(source) as load:
            load.has_written(2000)
        to = begin_migration(source)
        holds(lambda: is_receiving(to), "the slots are on their way")
        run = Run(settings_of(source, target, tmp_path / "t1", method))
        with pytest.raises(SourceRefused, match="made while it took some over"):
            await run.future
        assert run.task.state is TaskState.FAILED
        # Of that shard not a key was written, neither its own nor those that came to it.
        assert not [key for key in everything(target) if source.primary_of(key_slot(key)) is to]


@BOTH_TARGETS
async def test_what_is_over_soon_is_noticed_too_and_there_is_a_way_on(
    is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    with (
        target_of(is_cluster, start_server) as target,
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as source,
        ClusterLoad(source) as load,
    ):
        load.has_written(1000)
        settings = settings_of(source, target, tmp_path / "t1", Method.INCREMENTAL)
        run = Run(settings)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        await asyncio.to_thread(source.migrate_slots, FIRST, LAST, source.primaries()[1])
        with pytest.raises(SourceRefused, match="slots of the source"):
            await run.future
        with pytest.raises(SourceRefused, match="slots of the source"):
            await Run(settings).future
        # What the message says: forget the task, an empty target, the same again.
        nodes = target.primaries() if isinstance(target, RunningCluster) else [target]
        for node in nodes:
            with (node.server if isinstance(node, ClusterNode) else node).client() as client:
                client.flushall()
        async with running(settings_of(source, target, tmp_path / "t2", settings.method)) as again:
            await again.reaches(lambda: again.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.stop)
            await catches_up(again, source)
            assert await asyncio.to_thread(differences, source, target) == []
