"""The command line on a cluster and on Sentinels, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.control.command_line import COMMAND, environment
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import checkpoints, differences
from tests.servers.cluster import RunningCluster
from tests.servers.sentinels import SentinelTrio

pytestmark = pytest.mark.live
NAME = "redis-8.2"


def ferry(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *COMMAND, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_cluster_is_checked_and_migrated_to_what_sentinels_name(
    tmp_path: Path, start_server: StartServer
) -> None:
    del start_server
    with RunningCluster(BINARIES[NAME], replicas=0) as source, SentinelTrio(BINARIES[NAME]) as trio:
        with ClusterLoad(source) as load:
            load.has_written(1500)
        urls = (source.url, trio.url)
        report = ferry("check", *urls, "--sample-seconds", "0", "--format", "json")
        assert report.returncode == 0, report.stdout + report.stderr
        roles = [it for it in json.loads(report.stdout)["findings"] if it["name"] == "source-role"]
        assert "cluster of 3 shards" in roles[0]["text"]

        run = ferry(
            "sync", *urls, "--exit-when-synced", "--progress", "json", "--task-id", "c1",
            "--spool-dir", str(tmp_path),
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        last = json.loads(run.stdout.splitlines()[-1])
        assert [it["name"] for it in last["lines"]] == ["s0", "s5461", "s10922"]
        assert last["phase"] == "done"
        assert differences(source, trio.primary) == []
        url = trio.primary.url

        shown = ferry("tasks", "show", "c1", "--target", url, "--spool-dir", str(tmp_path))
        assert all(f"}}:{line}" in shown.stdout or line in shown.stdout for line in ("s0", "s5461"))
        gone = ferry(
            "tasks", "forget", "c1", "--yes", "--target", url, "--spool-dir", str(tmp_path)
        )
        assert gone.returncode == 0, gone.stderr
        with trio.primary.client() as client:
            assert list(client.scan_iter("redis-ferry:*", count=1000)) == []


def test_what_a_task_left_on_a_cluster_is_shown_checked_and_forgotten(
    tmp_path: Path, start_server: StartServer
) -> None:
    source = start_server(NAME)
    with source.client() as client:
        client.mset({f"key:{number}": number for number in range(500)})
    with RunningCluster(BINARIES[NAME], replicas=0) as target:
        sides = ("--target", target.url, "--spool-dir", str(tmp_path))
        run = ferry(
            "sync", source.url, target.url, "--exit-when-synced", "--task-id", "c1",
            "--spool-dir", str(tmp_path),
        )  # fmt: skip
        assert run.returncode == 0, run.stderr

        shown = json.loads(ferry("tasks", "show", "c1", *sides, "--format", "json").stdout)
        (checkpoint,) = shown["checkpoints"]
        assert (checkpoint["phase"], checkpoint["line"]) == ("stream", "0")
        assert checkpoint["replid"]
        listed = ferry("tasks", "list", *sides)
        assert f"stream {checkpoint['replid']}:{checkpoint['offset']}" in listed.stdout

        found = {}
        for task_id in ("c1", "other"):
            report = ferry(
                "check", source.url, target.url, "--sample-seconds", "0.1", "--format", "json",
                "--task-id", task_id,
            )  # fmt: skip
            found[task_id] = [it["text"] for it in json.loads(report.stdout)["findings"]]
        assert any(
            f"stands at {checkpoint['replid']}:{checkpoint['offset']}" in it for it in found["c1"]
        )
        assert any("checkpoints of other tasks: c1" in it for it in found["other"])

        assert ferry("tasks", "forget", "c1", "--yes", *sides).returncode == 0
        assert checkpoints(target) == []


def test_a_cluster_is_inspected_as_one(start_server: StartServer) -> None:
    del start_server
    with RunningCluster(BINARIES[NAME]) as source:
        with ClusterLoad(source) as load:
            load.has_written(1000)
        for node in source.primaries():
            node.ask(
                "FUNCTION", "LOAD", "#!lua name=one\nredis.register_function('f', function() end)"
            )
        source.is_ok()
        reports = [
            ferry("inspect", source.url, "--format", "stats", "--read-from", it)
            for it in ("primary", "replica")
        ]
        assert [it.returncode for it in reports] == [0, 0], reports[0].stderr + reports[1].stderr
        keys = sum(int(it.ask("DBSIZE")) for it in source.primaries())
        for report in reports:
            found = json.loads(report.stdout)
            assert (found["keys"], found["functions"]) == (keys, 1)
            assert sum(it["keys"] for it in found["types"].values()) == keys
            assert len(found["biggest"]) == 10
        refused = ferry("inspect", source.url, "--format", "memory")
        assert refused.returncode == 2
        assert "--format table or stats reports all shards" in refused.stderr
