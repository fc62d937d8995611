"""A cluster target under a load where each command counts; the worker is killed, primaries too, slots move."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.control.test_cluster_cli import ferry
from tests.faults.arena import holds
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import checkpoints, differences
from tests.live.sides import offset_of
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "32mb"}


def ends_equal(worker: Worker, source, target: RunningCluster) -> None:
    worker.applies(offset_of(source))
    worker.wait_for(lambda it: not it["expiries_owed"], "all expiries are the source's")
    assert worker.stop() == 130
    assert differences(source, target) == []


def fail_over(target: RunningCluster, shard: int) -> None:
    """Kill a primary whose replica stands still, so that the promoted one lacks acknowledged writes."""
    victim = target.primaries()[shard]
    (replica,) = target.replicas_of(victim)
    os.kill(replica.server.pid, signal.SIGSTOP)
    try:
        with victim.server.client() as client:
            before = client.info("replication")["master_repl_offset"]
            holds(
                lambda: client.info("replication")["master_repl_offset"] > before + 5000,
                "writes that the replica lacks",
            )
        victim.server.kill()
    finally:
        os.kill(replica.server.pid, signal.SIGCONT)
    target.follows(replica)
    victim.server.start()
    target.is_ok()


def run_faults(start_server: StartServer, folder: Path, *, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME]) as target,
        ClusterLoad(source, rate=1500) as load,
        Worker(source.url, target.url, folder) as worker,
    ):
        load.has_written(1000)
        worker.start()
        for number in range(rounds):
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            load.has_written(rng.randrange(200, 800))
            if number % 2 == 0:
                fail_over(target, rng.randrange(3))
                worker.wait_for(lambda it: it["state"] == "stream", "the stream again")
            else:
                _, other = target.primaries()[:2]
                for slot in rng.sample(sorted(target.map().shards[0].slots), 60):
                    target.move_slot(slot, other)
            worker.kill()
            load.has_written(rng.randrange(100, 400))
            worker.start()
        worker.wait_for(lambda it: it["state"] == "stream", "the stream again")
        load.stop()
        ends_equal(worker, source, target)
        assert worker.totals["full_resyncs"] == 1
        assert worker.totals["partial_resyncs"] >= rounds
        assert len(checkpoints(target)) == 16384 + 1
        forgotten = ferry(
            "tasks", "forget", "t1", "--yes", f"--target={target.url}",
            f"--spool-dir={worker.spool_dir}",
        )  # fmt: skip
        assert forgotten.returncode == 0, forgotten.stderr
        assert checkpoints(target) == []


def test_kills_and_moves_lose_and_double_nothing(start_server: StartServer, tmp_path: Path) -> None:
    run_faults(start_server, tmp_path, rounds=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_kills_and_moves_lose_and_double_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    run_faults(start_server, tmp_path, rounds=20, seed=2)
