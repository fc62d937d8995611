"""One shard of the target has no memory left: who it is is said, also at a stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.crc import key_slot

from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.running_task import running
from tests.live.sides import offset_of
from tests.live.test_cluster_target import CONFIG, NAME, settings_to
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]


async def test_the_shard_that_refuses_is_named_and_a_stop_does_not_hide_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.set("key", 1)
        full = target.primary_of(key_slot(b"key"))
        assert full is not target.primaries()[0]
        address = f"127.0.0.1:{full.server.port}"
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.incr("key")  # what follows the snapshot's own checkpoints
            await run.reaches_offset(offset_of(source))
            full.ask("CONFIG", "SET", "maxmemory", 1)
            client.incr("key")
            await run.reaches(lambda: "OOM" in (run.task.status().error or ""), "it is told")
            assert f"the target {address} " in (run.task.status().error or "")
            await run.stop()
            status = run.task.status()
            assert run.task.state is TaskState.STOPPED
            assert status.error is not None
            assert status.error.startswith("stopped before the target had all that was read")
            assert address in status.error
        full.ask("CONFIG", "SET", "maxmemory", 0)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches_offset(offset_of(source))
            assert run.task.status().full_resyncs == 0
            assert await asyncio.to_thread(differences, source, target) == []
            await run.stop()
            assert run.task.status().error is None
