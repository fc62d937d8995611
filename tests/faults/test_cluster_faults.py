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
from tests.faults.worker import PATIENCE_SECONDS, Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import checkpoints, differences
from tests.live.sides import offset_of
from tests.servers.cluster import (
    LACKING_BYTES,
    ClusterNode,
    RunningCluster,
    cut_off,
    offset_at_promotion,
)

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
# The short loop on all of them; the long ones take their time.
NAMES = [
    it for it in ("redis-6.2", "redis-7.0", NAME, "valkey-8.1", "valkey-9.1") if it in BINARIES
]
# What a fault of the target leads to. The slots of the other shards have what the promoted replica lacks: they leave it out
# when it is sent again.
LOST_PRIMARY = ("target_reconnects", "slot_commands_skipped")
MOVED_SLOTS = ("slot_waits", "topology_changes")
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "32mb"}
# Twelve servers on a busy machine: one that gets no turn for a second is not lost yet.
UNHURRIED = {"cluster-node-timeout": 4000}


def ends_equal(worker: Worker, source, target: RunningCluster) -> None:
    worker.applies(offset_of(source))
    worker.wait_for(lambda it: not it["expiries_owed"], "all expiries are the source's")
    assert worker.stop() == 130
    assert differences(source, target) == []


def fail_over(
    target: RunningCluster, shard: int, *, when_ok: Callable[[], None] = lambda: None
) -> None:
    """Kill a primary whose replica is cut off, so that the promoted one lacks acknowledged writes.

    when_ok: called as soon as the cluster is whole again, before the killed server comes back.
    """
    victim = target.primaries()[shard]
    (replica,) = target.replicas_of(victim)
    with cut_off(replica.server, victim.server):
        before = offset_of(victim.server)
        holds(
            lambda: offset_of(victim.server) > before + LACKING_BYTES,
            "writes that the replica lacks",
        )
        victim.server.kill()
    target.follows(replica)
    assert offset_at_promotion(replica.server) <= before
    holds(lambda: all(it.is_ok for it in target.running), "the cluster is ok")
    when_ok()
    victim.server.start()
    target.is_ok()


def run_faults(
    start_server: StartServer, folder: Path, *, rounds: int, seed: int, name: str = NAME
) -> None:
    rng = random.Random(seed)
    source = start_server(name, config=CONFIG)
    with (
        RunningCluster(BINARIES[name]) as target,
        ClusterLoad(source, rate=1500) as load,
        Worker(source.url, target.url, folder) as worker,
    ):
        load.has_written(1000)
        worker.start()
        for number in range(rounds):
            streams(worker)
            load.has_written(rng.randrange(200, 800))
            before = worker.status
            if number % 2 == 0:
                fail_over(target, rng.randrange(3))
                worker.has_met(*LOST_PRIMARY, since=before)
                streams(worker)
            else:
                _, other = target.primaries()[:2]
                for slot in rng.sample(sorted(target.map().shards[0].slots), 60):
                    target.move_slot(slot, other)
                worker.has_met(*MOVED_SLOTS, since=before)
            worker.kill()
            load.has_written(rng.randrange(100, 400))
            worker.start()
        streams(worker)
        load.stop()
        ends_equal(worker, source, target)
        assert worker.totals["full_resyncs"] == 1
        assert worker.totals["partial_resyncs"] >= rounds
        failovers, reshards = (rounds + 1) // 2, rounds // 2
        assert all(worker.totals[it] >= failovers for it in LOST_PRIMARY), worker.totals
        assert all(worker.totals[it] >= reshards for it in MOVED_SLOTS), worker.totals
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


def shard_with_replica(cluster: RunningCluster, rng: random.Random) -> int:
    """One of those that can fail over; who has just been demoted is told by gossip."""

    def found() -> list[int]:
        return [n for n, it in enumerate(cluster.map().shards) if it.replicas]

    return rng.choice(holds(found, "a shard with a replica"))


def source_fails_over(source: RunningCluster, shard: int, worker: Worker) -> None:
    """A replica that has everything is promoted; its line goes on by a partial resync."""
    before = worker.status
    old = source.primaries()[shard]
    source.promote(source.replicas_of(old)[0])
    source.is_ok()
    worker.has_met("partial_resyncs", "source_reconnects", since=before)


def source_is_killed(source: RunningCluster, shard: int, worker: Worker) -> int:
    """A primary is killed in the midst of writes; how many full resyncs that cost.

    The promoted server tells which resync is right: it grants a partial one if it has all that the line has read.
    """
    before = worker.status
    victim = source.primaries()[shard]
    replica = source.replicas_of(victim)[0]
    asked = resyncs_at(replica)
    victim.server.kill()
    source.follows(replica)
    after = worker.wait_for(
        lambda it: sum(resyncs_of(it)) > sum(resyncs_of(before)),
        "a resync with the promoted server",
        deadline_seconds=PATIENCE_SECONDS,
    )
    granted = tuple(now - then for now, then in zip(resyncs_at(replica), asked, strict=True))
    counted = tuple(b - a for a, b in zip(resyncs_of(before), resyncs_of(after), strict=True))
    assert granted == counted
    worker.has_met("source_reconnects", since=before)
    streams(worker)
    victim.server.start()
    source.is_ok()
    return granted[0]


def resyncs_at(node: ClusterNode) -> tuple[int, int]:
    """Full and partial ones that the server has granted."""
    with node.server.client() as client:
        stats = client.info("stats")
    return stats["sync_full"], stats["sync_partial_ok"]


def resyncs_of(status: dict[str, Any]) -> tuple[int, int]:
    return status["full_resyncs"], status["partial_resyncs"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_both_clusters_change_all_the_time(start_server: StartServer, tmp_path: Path) -> None:
    """Reshards of 4,000 slots there and back, a node added, lagging failovers, failovers of the source; kills between."""
    rng = random.Random(4)
    with (
        RunningCluster(BINARIES[NAME], config=CONFIG | UNHURRIED) as source,
        RunningCluster(BINARIES[NAME], config=UNHURRIED) as target,
        ClusterLoad(source, rate=1500) as load,
        Worker(source.url, target.url, tmp_path) as worker,
    ):
        load.has_written(2000)
        worker.start()
        streams(worker)
        moved, full_resyncs, recoveries = 0, 3, []  # at the beginning, one for each line

        def reshard(slots: list[int], to: ClusterNode) -> None:
            """Half of it, the worker killed, the other half."""
            nonlocal moved
            for part in (slots[: len(slots) // 2], slots[len(slots) // 2 :]):
                streams(worker)
                before = worker.status
                target.move_slots(part, to)
                moved += len(part)
                worker.has_met(*MOVED_SLOTS, since=before)
                streams(worker)
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
            before = worker.status
            fail_over(target, shard_with_replica(target, rng), when_ok=recovers)
            worker.has_met(*LOST_PRIMARY, since=before)
            worker.kill()
            load.has_written(300)
            worker.start()
            streams(worker)
            source_fails_over(source, shard_with_replica(source, rng), worker)
            load.has_written(300)
            full_resyncs += source_is_killed(source, shard_with_replica(source, rng), worker)
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
        print(f"slots moved {moved}, totals {dict(worker.totals)}, recoveries {recoveries}")
        assert moved >= 16_000
        assert worker.totals["full_resyncs"] == full_resyncs
        assert len(recoveries) == 2


@pytest.mark.parametrize(
    "name", [it if it == NAME else pytest.param(it, marks=pytest.mark.slow) for it in NAMES]
)
def test_kills_and_moves_lose_and_double_nothing(
    name: str, start_server: StartServer, tmp_path: Path
) -> None:
    run_faults(start_server, tmp_path, rounds=2, seed=1, name=name)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_kills_and_moves_lose_and_double_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    run_faults(start_server, tmp_path, rounds=20, seed=2)
