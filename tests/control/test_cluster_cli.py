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
from tests.live.cluster_sides import differences
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
