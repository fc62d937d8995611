"""A cluster as the source of the scan reader: one line, whichever shard a key is on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.endpoint import parse_endpoint
from engine.settings import ScanChanges
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.test_scan_reader import ON, has_gone_on, scanning, settings_for
from tests.servers.cluster import RunningCluster

pytestmark = pytest.mark.live


@pytest.mark.parametrize("changes", list(ScanChanges)[1::2], ids=str)
async def test_a_cluster_is_read_as_one_source(
    changes: ScanChanges, tmp_path: Path, start_server: StartServer
) -> None:
    target = start_server("redis-8.2")
    with (
        RunningCluster(BINARIES["redis-8.2"], replicas=0, config=ON) as source,
        ClusterLoad(source, has_groups=False) as load,
    ):
        load.has_written(1500)
        url = parse_endpoint(source.url, role="source")
        settings = settings_for(url, target, tmp_path, scan_changes=changes)
        async with scanning(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 1500)
            await asyncio.to_thread(load.stop)
            await until(lambda: not differences(source, target), "equal data", running=run.future)
            status = run.task.status()
    assert (status.full_resyncs, status.scan_gaps) == (1, 0)


async def test_slots_that_move_between_source_shards_mean_another_pass(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    with (
        RunningCluster(BINARIES["redis-8.2"], replicas=0, config=ON) as source,
        ClusterLoad(source, has_groups=False) as load,
    ):
        load.has_written(1000)
        url = parse_endpoint(source.url, role="source")
        async with scanning(settings_for(url, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            to = source.primaries()[-1]
            for slot in range(100):
                await asyncio.to_thread(source.move_slot, slot, to)
            await asyncio.to_thread(load.has_written, 1000)
            await asyncio.to_thread(load.stop)
            await has_gone_on(run, 1, 2)
            await until(lambda: not differences(source, target), "equal data", running=run.future)
