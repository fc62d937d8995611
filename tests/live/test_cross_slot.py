"""Commands over several slots, from a server into a cluster: what they make comes from the source, at its place in the stream."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.endpoint import parse_endpoint
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.cross_slot_load import CrossSlotLoad, marks
from tests.live.running_task import MIB, make_settings, running
from tests.live.sides import offset_of
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "16mb"}


def settings_to(source, cluster, folder: Path, **changes):
    return make_settings(
        source.endpoint,
        parse_endpoint(cluster.url, role="target"),
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder / "t1"),
        **changes,
    )


@pytest.mark.parametrize("name", [it for it in ("redis-8.2",) if it in BINARIES])
async def test_every_kind_under_load(name: str, start_server: StartServer, tmp_path: Path) -> None:
    source = start_server(name, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, CrossSlotLoad(source) as load:
        load.has_written(500)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_used, 1500)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
            status = run.task.status()
            assert status.cross_slot_resolved > 100
            assert status.cross_slot_split > 100
            assert status.keys_resolved > 100
            assert status.full_resyncs == 1
        assert marks(target) == []
