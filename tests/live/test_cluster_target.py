"""A cluster as the target: every slot with its own checkpoint, exactly once through whatever happens to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.endpoint import parse_endpoint
from engine.errors import TargetRejected
from engine.settings import CrossSlotPolicy, DeliveryMode, Method, SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import checkpoints, differences
from tests.live.running_task import MIB, Run, make_settings, migrate, running
from tests.live.sides import offset_of
from tests.live.test_cluster_source import catches_up
from tests.servers.cluster import (
    LACKING_BYTES,
    PATIENT,
    RunningCluster,
    cut_off,
    even_ranges,
    holds,
    offset_at_promotion,
)

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "16mb"}


def settings_to(source, cluster, folder: Path, **changes):
    return make_settings(
        source if not hasattr(source, "endpoint") else source.endpoint,
        parse_endpoint(cluster.url, role="target"),
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder / "t1"),
        **changes,
    )


@pytest.mark.parametrize("name", [it for it in ("redis-6.2", "valkey-9.1") if it in BINARIES])
@pytest.mark.parametrize("delivery", list(DeliveryMode))
async def test_a_server_into_a_cluster(
    name: str, delivery: DeliveryMode, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(name, config=CONFIG)
    with RunningCluster(BINARIES[name], replicas=0) as target, ClusterLoad(source) as load:
        load.has_written(2000)
        async with running(settings_to(source, target, tmp_path, delivery=delivery)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 3000)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
        # Stopped, and gone on with.
        with ClusterLoad(source, seed=3) as more:
            more.has_written(1000)
        async with running(settings_to(source, target, tmp_path, delivery=delivery)) as run:
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.partial_resyncs) == (0, 1)
            assert await asyncio.to_thread(differences, source, target) == []


async def test_three_shards_into_five(tmp_path: Path) -> None:
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=CONFIG) as source,
        RunningCluster(BINARIES[NAME], replicas=0, layout=even_ranges(5)) as target,
        ClusterLoad(source) as load,
    ):
        load.has_written(2000)
        url = parse_endpoint(source.url, role="source")
        async with running(settings_to(url, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 2000)
            await asyncio.to_thread(load.stop)
            await catches_up(run, source)
            assert await asyncio.to_thread(differences, source, target) == []


async def test_a_full_migration_leaves_nothing_of_ours(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target:
        with ClusterLoad(source) as load:
            load.has_written(2000)
        task = await migrate(settings_to(source, target, tmp_path, method=Method.FULL))
        assert task.state is TaskState.DONE
        assert await asyncio.to_thread(differences, source, target) == []
        assert checkpoints(target) == []


async def test_a_primary_is_lost_with_writes_that_its_replica_lacks(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME]) as target, ClusterLoad(source) as load:
        load.has_written(1000)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 1000)
            victim = target.primaries()[1]
            (replica,) = target.replicas_of(victim)
            with cut_off(replica.server, victim.server):
                before = offset_of(victim.server)
                await asyncio.to_thread(load.has_written, 1000)
                await asyncio.to_thread(
                    holds,
                    lambda: offset_of(victim.server) > before + LACKING_BYTES,
                    "writes that the replica lacks",
                )
                victim.server.kill()
            await asyncio.to_thread(target.follows, replica)
            assert offset_at_promotion(replica.server) <= before
            await asyncio.to_thread(
                holds, lambda: all(it.is_ok for it in target.running), "the cluster is ok"
            )
            before = run.task.status().applied_offset
            await run.reaches(
                lambda: (
                    run.task.status().applied_offset > before and run.task.state is TaskState.STREAM
                ),
                "applying again",
            )
            await asyncio.to_thread(load.has_written, 1000)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.full_resyncs == 1
            assert status.target_reconnects >= 1
            assert status.slot_commands_skipped > 0
            assert await asyncio.to_thread(differences, source, target) == []


def cut_links(target: RunningCluster) -> None:
    """End the data connection to each primary; the servers go on."""
    for node in target.primaries():
        with node.server.client() as client:
            for it in client.client_list():
                if it["name"].startswith("redis-ferry:"):
                    client.client_kill_filter(_id=it["id"])


async def test_a_full_resync_behind_a_lost_link_removes_what_was_brought_before(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target:
        with source.client() as client:
            client.mset({f"key:{number}": number for number in range(200)})
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            with source.client() as client:
                client.set(
                    "key:0", "again"
                )  # behind the snapshot: a source without replicas is at offset 0
            await run.reaches_offset(offset_of(source))
            cut_links(target)
            await run.reaches(
                lambda: run.task.status().target_reconnects == 1, "the target's link again"
            )
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream again")
            source.kill()  # what it had is gone, and so is its history
            await asyncio.to_thread(source.start)
            with source.client() as client:
                client.set("key:new", 1)
            await run.reaches(
                lambda: run.task.status().leftovers_removed, "what the source has lost is removed"
            )
            with source.client() as client:
                client.set("key:behind", 1)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.leftovers_removed) == (2, 200)
            assert await asyncio.to_thread(differences, source, target) == []


async def test_a_link_that_is_lost_in_the_snapshot_costs_what_was_on_its_way(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target:
        with source.client() as client:
            client.mset({f"key:{number}": "x" * 1000 for number in range(3000)})
        settings = settings_to(
            source, target, tmp_path, bandwidth_limit_bytes_per_second=512 * 1024
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.status().keys_applied > 500, "some keys")
            cut_links(target)
            await run.reaches(
                lambda: run.task.status().target_reconnects == 1, "the target's link again"
            )
            run.task.set_bandwidth_limit(None)
            await run.reaches_offset(offset_of(source))
            assert run.task.status().full_resyncs == 1
            assert await asyncio.to_thread(differences, source, target) == []
        # The slots agree on the snapshot that they began with: the next run goes on from them.
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.partial_resyncs) == (0, 1)


async def test_slots_move_while_data_flow(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        ClusterLoad(source) as load,
    ):
        load.has_written(1000)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            new = await asyncio.to_thread(target.add_node)
            old = target.primaries()[0]

            def moves() -> None:
                for slot in range(300):
                    target.move_slot(slot, new)
                for slot in range(100):
                    target.move_slot(slot, old)

            await asyncio.to_thread(moves)
            await asyncio.to_thread(load.has_written, 500)
            await run.reaches(lambda: run.task.status().topology_changes > 0, "the moves are met")
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status
            assert await asyncio.to_thread(differences, source, target) == []


async def test_what_spans_slots_is_split_or_stops_the_task(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        run = Run(settings_to(source, target, tmp_path, on_cross_slot=CrossSlotPolicy.STOP))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        client.mset({"a": 1, "b": 2, "c": 3, "d": 4})
        client.delete("c", "d")
        with client.pipeline(transaction=True) as pipe:
            pipe.incr("a").incr("b").execute()
        client.publish("news", "x")
        await run.reaches_offset(offset_of(source))
        assert await asyncio.to_thread(differences, source, target) == []
        assert run.task.status().cross_slot_split == 3
        client.flushall()
        client.set("e", 5)
        await run.reaches_offset(offset_of(source))
        assert await asyncio.to_thread(differences, source, target) == []
        client.rename("e", "f")
        with pytest.raises(TargetRejected, match=r"RENAME on key b'e'.*several slots"):
            await run.future
