"""A cluster target under a load where each command counts; the worker is killed, primaries too, slots move."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.control.test_cluster_cli import ferry
from tests.faults.arena import holds
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import checkpoints, differences
from tests.live.sides import offset_of
from tests.servers.cluster import ClusterNode, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
PATIENCE_SECONDS = 180.0  # many processes, and maybe other tests, on two cores
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "32mb"}


def ends_equal(worker: Worker, source, target: RunningCluster) -> None:
    worker.applies(offset_of(source))
    worker.wait_for(lambda it: not it["expiries_owed"], "all expiries are the source's")
    assert worker.stop() == 130
    assert differences(source, target) == []


def fail_over(
    target: RunningCluster, shard: int, *, when_ok: Callable[[], None] = lambda: None
) -> None:
    """Kill a primary whose replica stands still, so that the promoted one lacks acknowledged writes.

    when_ok: called as soon as the cluster is whole again, before the killed server comes back.
    """
    victim = target.primaries()[shard]
    (replica,) = target.replicas_of(victim)
    replica.server.pause()
    try:
        with victim.server.client() as client:
            before = client.info("replication")["master_repl_offset"]
            holds(
                lambda: client.info("replication")["master_repl_offset"] > before + 5000,
                "writes that the replica lacks",
            )
        victim.server.kill()
    finally:
        replica.server.unpause()
    target.follows(replica)
    holds(lambda: all(it.is_ok for it in target.running), "the cluster is ok")
    when_ok()
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


def catches_up(worker: Worker, source: RunningCluster) -> None:
    """Each line has all that its shard has now, and expiries are the source's."""
    wanted = sorted(source.offsets().values())

    def is_there(status: dict[str, Any]) -> bool:
        lines = sorted(it["applied_offset"] for it in status["lines"])
        return status["state"] == "stream" and not status["expiries_owed"] and all(
            a >= b for a, b in zip(lines, wanted, strict=True)
        )  # fmt: skip

    worker.wait_for(is_there, f"offsets {wanted} are applied", deadline_seconds=PATIENCE_SECONDS)


def streams(worker: Worker) -> None:
    worker.wait_for(
        lambda it: it["state"] == "stream", "the stream", deadline_seconds=PATIENCE_SECONDS
    )


def source_fails_over(source: RunningCluster, shard: int) -> None:
    """A replica that has everything is promoted; its line goes on by a partial resync."""
    old = source.primaries()[shard]
    source.promote(source.replicas_of(old)[0])
    source.is_ok()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_both_clusters_change_all_the_time(start_server: StartServer, tmp_path: Path) -> None:
    """Reshards of 4,000 slots there and back, a node added, lagging failovers, failovers of the source; kills between."""
    rng = random.Random(4)
    with (
        RunningCluster(BINARIES[NAME], config=CONFIG) as source,
        RunningCluster(BINARIES[NAME]) as target,
        ClusterLoad(source, rate=1500) as load,
        Worker(source.url, target.url, tmp_path) as worker,
    ):
        load.has_written(2000)
        worker.start()
        streams(worker)
        moved, waits, recoveries = 0, 0, []

        def reshard(slots: list[int], to: ClusterNode) -> None:
            """Half of it, the worker killed, the other half."""
            nonlocal moved, waits
            for part in (slots[: len(slots) // 2], slots[len(slots) // 2 :]):
                target.move_slots(part, to)
                streams(worker)
                moved += len(part)
                waits += worker.status["slot_waits"]
                worker.kill()
                load.has_written(200)
                worker.start()
            streams(worker)

        def recovers() -> None:
            began, before = time.monotonic(), worker.status["applied_offset"]
            worker.wait_for(
                lambda it: it["state"] == "stream" and it["applied_offset"] > before,
                "applying again",
                deadline_seconds=PATIENCE_SECONDS,
            )
            recoveries.append(time.monotonic() - began)

        for number in range(2):
            first, second = target.primaries()[:2]
            slots = sorted(target.map().shards[0].slots)[:4000]
            reshard(slots, second)
            reshard(slots, first)
            with_replica = [n for n, it in enumerate(target.map().shards) if it.replicas]
            fail_over(target, rng.choice(with_replica), when_ok=recovers)
            worker.kill()
            load.has_written(300)
            worker.start()
            streams(worker)
            source_fails_over(source, rng.randrange(3))
            load.has_written(300)
            worker.kill()
            worker.start()
            streams(worker)
            if number == 1:
                added = target.add_node()
                reshard(sorted(target.map().shards[1].slots)[:1000], added)
        load.stop()
        catches_up(worker, source)
        assert worker.stop() == 130
        assert differences(source, target) == []
        print(
            f"slots moved {moved}, waited for {waits}, totals {dict(worker.totals)}, recoveries {recoveries}"
        )
        assert moved >= 16_000
        assert waits > 0
        assert worker.totals["full_resyncs"] == 3  # at the beginning, one for each line
        assert worker.totals["target_reconnects"] >= 2
        assert len(recoveries) == 2


def test_kills_and_moves_lose_and_double_nothing(start_server: StartServer, tmp_path: Path) -> None:
    run_faults(start_server, tmp_path, rounds=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_kills_and_moves_lose_and_double_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    run_faults(start_server, tmp_path, rounds=20, seed=2)
