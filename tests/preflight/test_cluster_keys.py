"""What is on a target cluster is told apart: its keys, and our checkpoints, 16,384 a line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.codec.slots import key_slot
from engine.endpoint import parse_endpoint
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import offset_of
from tests.live.test_acl import documented, permit
from tests.preflight.test_check_live import report
from tests.servers.cluster import RunningCluster

pytestmark = pytest.mark.live


async def test_checkpoints_on_a_cluster_are_no_keys_of_the_target(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-6.2", config={"repl-diskless-sync-delay": 0})
    with RunningCluster(BINARIES["redis-8.2"], replicas=0) as cluster, source.client() as client:
        target = parse_endpoint(cluster.url, role="target")
        settings = make_settings(source.endpoint, target, spool=SpoolSettings(directory=tmp_path))
        client.set("ours", 1)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.set("of the stream", 1)
            await run.reaches_offset(offset_of(source))
        for node in cluster.nodes:
            permit(node.server, documented("target"))
            permit(node.server, documented("target cluster"))
        permitted = replace(target, username="ferry", password="password")

        # As `check` asks: it looks for other tasks' checkpoints, too.
        for endpoint in (target, permitted):
            its_own = await report(replace(settings, target=endpoint), 0.1)
            others = await report(replace(settings, target=endpoint, task_id="another"), 0.1)
            text = "the target has 2 keys (db0 2)"
            assert its_own["target-keys"].text == f"{text}, this task's own among them"
            assert others["target-keys"].text.startswith(f"{text}: those with a name")
        for key in (b"ours", b"of the stream"):
            with cluster.primary_of(key_slot(key)).server.client() as its:
                its.delete(key)
        emptied = await report(replace(settings, target=permitted, task_id="another"), 0.1)
        assert emptied["target-keys"].text == "the target is empty"
