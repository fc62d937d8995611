"""A target primary is replaced: every line goes on, soon, and without waiting for the one that is gone."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from redis.crc import key_slot

from benchmarks.failover import crossed_ranges
from engine.codec.block import Block
from engine.replay import cluster_delivery
from engine.replay.cluster_delivery import ClusterDelivery
from engine.settings import TargetSettings
from engine.supervision.states import TaskState
from tests.conditions import holds
from tests.faults.test_cluster_faults import catches_up, fail_over, streams
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import running
from tests.live.sides import offset_of
from tests.live.test_cluster_target import CONFIG, NAME, settings_to
from tests.servers.cluster import ClusterNode, RunningCluster, cut_off, paused

pytestmark = [pytest.mark.live, pytest.mark.faults]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost_of_reading_with_a_client(target: RunningCluster, line: str) -> float:
    """CPU seconds that redis-py takes for one line's checkpoints: a figure of this machine."""
    seconds = 0.0
    for node in target.primaries():
        with node.server.client() as client:
            keys = client.keys(f"redis-ferry:slot:*:{line}")
            began = time.thread_time()
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.hgetall(key)
            pipe.execute()
            seconds += time.thread_time() - began
    return seconds


def replication_offset(node: ClusterNode) -> int:
    with node.server.client() as client:
        info = client.info("replication")
    return int(info.get("slave_repl_offset", info["master_repl_offset"]))


@pytest.mark.timeout(400)  # on a machine with other work
def test_three_lines_apply_again_without_much_ado(tmp_path: Path) -> None:
    """Each line writes to each shard. Reading 16,384 checkpoints with a client for each line would alone take longer."""
    crossed = crossed_ranges(3)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=CONFIG) as source,
        RunningCluster(BINARIES[NAME], layout=crossed) as target,
        ClusterLoad(source, rate=600) as load,
        Worker(source.url, target.url, tmp_path) as worker,
    ):
        load.has_written(1000)
        worker.start()
        streams(worker)
        load.has_written(1000)
        used = 0.0

        def applies() -> None:
            nonlocal used
            used = cpu_seconds(worker.pid)
            before = {it["name"]: it["applied_offset"] for it in worker.status["lines"]}
            worker.wait_for(
                lambda status: all(
                    it["applied_offset"] > before[it["name"]] for it in status["lines"]
                ),
                "every line applies again",
            )
            used = cpu_seconds(worker.pid) - used

        fail_over(target, 1, when_ok=applies)
        load.stop()
        catches_up(worker, source)
        one_reading = cost_of_reading_with_a_client(target, "s0")
        assert worker.status["full_resyncs"] == 3
        assert worker.status["target_reconnects"] >= 3
        assert worker.status["slot_commands_skipped"] > 0
        assert worker.stop() == 130
        assert differences(source, target) == []
        print(
            f"{used:.2f} s of CPU for three lines, a client reads one line's in {one_reading:.2f} s"
        )
        assert used < 3 * one_reading


@pytest.mark.timeout(400)
async def test_a_primary_that_hangs_is_left_when_it_has_been_replaced(
    start_server: StartServer, tmp_path: Path
) -> None:
    """It closes no connection, and its answers would be waited for."""
    patient = TargetSettings(connect_timeout_seconds=5, reply_timeout_seconds=100)
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME]) as target, ClusterLoad(source, rate=500) as load:
        load.has_written(500)
        async with running(settings_to(source, target, tmp_path, target_link=patient)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 500)
            victim = target.primaries()[0]
            (replica,) = target.replicas_of(victim)
            others = [it for it in target.nodes if it is not victim]

            def knows(node: ClusterNode) -> bool:
                primaries = {it.primary.node_id for it in node.map().shards}
                return replica.node_id in primaries and node.is_ok

            with paused(victim.server):
                await asyncio.to_thread(
                    holds, lambda: all(knows(it) for it in others), "it is replaced"
                )
                before = run.task.status().applied_offset
                await run.reaches(
                    lambda: run.task.status().applied_offset > before,
                    "applying again",
                    deadline_seconds=30,
                )
                assert run.task.status().target_reconnects >= 1
            await asyncio.to_thread(load.stop)
            await asyncio.to_thread(target.is_ok)
            await run.reaches_offset(offset_of(source))
            assert run.task.status().full_resyncs == 1
            assert await asyncio.to_thread(differences, source, target) == []


@pytest.mark.timeout(400)
async def test_a_primary_that_hangs_is_left_although_nothing_is_sent(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The promoted one lacks what was confirmed; the source has no more writes that would tell."""
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME]) as target, source.client() as client:
        client.set("first", 1)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.incr("first")  # what follows the snapshot's own checkpoints
            await run.reaches_offset(offset_of(source))
            victim = target.primary_of(key_slot(b"lacking"))
            (replica,) = target.replicas_of(victim)
            others = [it for it in target.nodes if it is not victim]
            await asyncio.to_thread(
                holds,
                lambda: replication_offset(replica) >= replication_offset(victim),
                "the replica has the checkpoints",
            )
            with cut_off(replica.server, victim.server):
                client.incr("lacking")
                await run.reaches_offset(offset_of(source))
                victim.server.pause()
            try:
                await asyncio.to_thread(
                    holds,
                    lambda: all(
                        replica.node_id in {it.primary.node_id for it in node.map().shards}
                        for node in others
                    ),
                    "it is replaced",
                )
                await run.reaches(
                    lambda: run.task.status().target_reconnects > 0,
                    "it is noticed",
                    deadline_seconds=30,
                )
                await run.reaches_offset(offset_of(source))
                assert replica.ask("GET", "lacking") == b"1"
            finally:
                victim.server.unpause()
            await asyncio.to_thread(target.is_ok)
            assert run.task.status().full_resyncs == 1
            assert await asyncio.to_thread(differences, source, target) == []


async def test_a_primary_that_hangs_does_not_let_the_others_fill_the_memory(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the one command that waits, blocks for the others are held until it is on the target."""
    most, value = 1024 * 1024, b"x" * 1000
    unconfirmed: list[int] = []
    waiting: set[int] = set()
    send = ClusterDelivery.send

    async def watched(self: ClusterDelivery, block: Block, received_seconds: float) -> None:
        waiting.add(id(block))
        try:
            await send(self, block, received_seconds)
        finally:
            waiting.discard(id(block))
        unconfirmed.append(sum(len(it.data) for it in self.unconfirmed))

    monkeypatch.setattr(cluster_delivery, "UNCONFIRMED_BYTES", most)
    monkeypatch.setattr(ClusterDelivery, "send", watched)
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.set("first", 1)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await run.reaches_offset(offset_of(source))
            victim = target.primaries()[0]
            keys = [f"key:{number}" for number in range(600)]
            here = [it for it in keys if target.primary_of(key_slot(it.encode())) is victim]
            elsewhere = [it for it in keys if it not in here]
            unconfirmed.clear()
            with paused(victim.server):
                client.set(here[0], 1)
                for _ in range(8):
                    for key in elsewhere:
                        client.append(key, value)
                await run.reaches(
                    lambda: waiting and max(unconfirmed, default=0) >= most, "a block waits"
                )
            await run.reaches_offset(offset_of(source))
            assert max(unconfirmed) < 2 * most
            assert run.task.status().full_resyncs == 1
            assert await asyncio.to_thread(differences, source, target) == []
