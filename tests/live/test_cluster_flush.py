"""FLUSHALL and FLUSHDB of a server whose target is a cluster: all of the source's keys go, and nothing behind them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.errors import SourceRefused
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences, everything
from tests.live.running_task import Run, running
from tests.live.sides import offset_of
from tests.live.test_cluster_target import CONFIG, NAME, settings_to
from tests.servers.cluster import PATIENT, RunningCluster

pytestmark = pytest.mark.live


@pytest.mark.parametrize("command", ["FLUSHDB", "FLUSHALL", "FLUSHDB ASYNC"])
async def test_a_flush_under_load_empties_the_cluster_at_its_place(
    command: str, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        ClusterLoad(source) as load,
        source.client() as client,
    ):
        load.has_written(1000)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.mset({f"before:{number}": 1 for number in range(100)})
            with capture_logs() as logs:
                client.execute_command(*command.split())
                await asyncio.to_thread(load.has_written, 1000)
                await asyncio.to_thread(load.stop)
                await run.reaches_offset(offset_of(source))
            (flushed,) = [it for it in logs if it["event"] == "stream.flushed"]
            assert flushed["keys"] > 100
            assert await asyncio.to_thread(differences, source, target) == []
            assert not [it for it in everything(target) if it.startswith(b"before:")]


@pytest.mark.parametrize("command", ["FLUSHDB", "FLUSHALL"])
async def test_a_flush_inside_a_transaction_ends_the_task_with_nothing_of_it_applied(
    command: str, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target:
        settings = settings_to(source, target, tmp_path)
        with source.client() as client:
            client.mset({f"before:{number}": 1 for number in range(100)})
            run = Run(settings)
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.set("last", 1)
            await run.reaches_offset(offset_of(source))
            with client.pipeline(transaction=True) as pipe:
                pipe.set("in", 1)
                pipe.execute_command(command)
                pipe.set("in:too", 1)
                pipe.execute()
        for number in range(2):  # nor does the same command go on behind it
            again = Run(settings) if number else run
            with pytest.raises(
                SourceRefused, match="transaction of the source with FLUSH"
            ) as ended:
                await again.future
            assert "another --task-id" in ended.value.hint
            assert again.task.state is TaskState.FAILED
            assert len(everything(target)) == 101
