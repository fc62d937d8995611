"""A server with several databases into a cluster: refused before anything is written, or ended where one turns up later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.control.test_cluster_cli import ferry
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import everything
from tests.live.sides import CONFIG, offset_of
from tests.servers.cluster import PATIENT, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"


def keys_of(cluster: RunningCluster) -> int:
    found = 0
    for node in cluster.primaries():
        with node.server.client() as client:
            found += client.dbsize()
    return found


def test_refused_with_the_ways_on_and_nothing_is_written(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    for db in (0, 3, 5):
        with source.client(db) as client:
            client.set(f"of:{db}", db)
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target:
        urls = (source.url, target.url)
        check = ferry("check", *urls, "--sample-seconds=0", "--format=json")
        assert check.returncode == 3
        findings = json.loads(check.stdout)["findings"]
        (refusal,) = [it for it in findings if it["level"] == "refusal"]
        assert refusal["name"] == "databases"

        sync = ferry("sync", *urls, "--progress=json", f"--spool-dir={tmp_path}")
        assert sync.returncode == 3
        for text in (json.dumps(refusal), sync.stderr):
            assert "a cluster has database 0 only" in text
            assert "--databases 0" in text
            assert "--db-map 3:0,5:0" in text
        assert keys_of(target) == 0


def test_one_that_turns_up_in_the_stream_ends_the_task_with_the_ways_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        source.client() as client,
        source.client(3) as other,
    ):
        client.set("before", 1)
        with Worker(source.url, target.url, tmp_path) as worker:
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            # In one go, so that they come in one block.
            with client.pipeline(transaction=False) as pipe:
                for number in range(100):
                    pipe.incr(f"n:{number % 7}")
                pipe.execute_command("SELECT", 3)
                pipe.set("in database 3", 1)
                pipe.execute_command("SELECT", 0)
                pipe.set("behind", 1)
                pipe.execute()
            assert worker.wait_for_end() == 4
            text = worker.log_path.read_text()
            for part in (
                "SELECT on key b'3'",
                "than 0: a cluster",
                "--databases 0",
                "--db-map 3:0",
            ):
                assert part in text
            # What is there is what the source had at one moment before: nothing of what came behind.
            found = everything(target)
            counts = {key: int(value) for key, (_, value, _, _) in found.items()}
            assert counts.pop(b"before") == 1
            told = sum(counts.values())
            assert counts == {b"n:%d" % n: len(range(n, told, 7)) for n in range(min(told, 7))}
            # The same again is refused before it begins: the database is seen now.
            worker.start()
            assert worker.wait_for_end() == 3
            assert everything(target) == found
        other.set("in database 3", 2)
        with Worker(source.url, target.url, tmp_path, "--databases=0", task_id="t2") as worker:
            worker.start()
            worker.applies(offset_of(source))
            names = {b"before", b"behind", *(b"n:%d" % n for n in range(7))}
            assert set(everything(target)) == names
            assert worker.stop() == 130
