"""A cluster as the source: a line for each shard, on to one standalone target."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest

from engine.cluster.places import with_address_map
from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.errors import SourceRefused
from engine.settings import ClusterSettings, ReadFrom, SpoolSettings
from engine.supervision.states import TaskState
from tests.control.test_cluster_cli import ferry
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.sides import keys_of_ours, offset_of
from tests.servers.cluster import RunningCluster, even_ranges, holds, paused

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAMES = [it for it in ("redis-6.2", "valkey-9.1") if it in BINARIES]
CONFIG = {"repl-backlog-size": "16mb"}


async def catches_up(run: Run, cluster: RunningCluster) -> None:
    """Each line has all that its shard has now."""
    wanted = sorted((await asyncio.to_thread(cluster.offsets)).values())

    def is_there() -> bool:
        status = run.task.status()
        offsets = sorted(it.applied_offset for it in status.lines)
        return (
            run.task.state is TaskState.STREAM
            and not status.expiries_owed
            and all(a >= b for a, b in zip(offsets, wanted, strict=True))
        )

    await run.reaches(is_there, f"offsets {wanted} are applied")


@pytest.mark.parametrize("name", NAMES)
async def test_each_shard_has_a_line(name: str, start_server: StartServer) -> None:
    target = start_server("redis-8.2" if name != "valkey-9.1" else name)
    with RunningCluster(BINARIES[name], config=CONFIG) as source, ClusterLoad(source) as load:
        load.has_written(2000)
        settings = make_settings(parse_endpoint(source.url, role="source"), target.endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 2000)
            await asyncio.to_thread(load.stop)
            await catches_up(run, source)
            status = run.task.status()
            assert [it.name for it in status.lines] == ["s0", "s5461", "s10922"]
            assert status.full_resyncs == 3
            assert await asyncio.to_thread(differences, source, target) == []
            lines = {key.rsplit(b":", 1)[1] for _, key in keys_of_ours(target)}
            assert lines == {b"s0", b"s5461", b"s10922"}


async def test_a_shards_primary_fails_over_and_its_line_continues(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    with RunningCluster(BINARIES["redis-8.2"], config=CONFIG) as source:
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        with ClusterLoad(source) as load:
            load.has_written(1000)
            async with running(settings) as run:
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
                await asyncio.to_thread(load.has_written, 1000)
                first = source.primaries()[0]
                replica = source.replicas_of(first)[0]
                first.server.kill()
                await asyncio.to_thread(source.follows, replica)
                await asyncio.to_thread(load.has_written, 1000)
                await asyncio.to_thread(load.stop)
                await catches_up(run, source)
                status = run.task.status()
                # A replica that lacked a write when its primary was killed means a full resync of its line.
                assert status.full_resyncs + status.partial_resyncs == 4
                assert await asyncio.to_thread(differences, source, target) == []
        # And after a restart of the worker, with another leader than at the beginning.
        with ClusterLoad(source, seed=2) as load:
            load.has_written(500)
            async with running(settings) as run:
                await asyncio.to_thread(load.has_written, 500)
                await asyncio.to_thread(load.stop)
                await catches_up(run, source)
                assert run.task.status().full_resyncs == 0
                assert await asyncio.to_thread(differences, source, target) == []


async def test_a_worker_that_starts_while_a_shard_fails_over_waits_for_the_end(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    with RunningCluster(BINARIES["redis-8.2"], config=CONFIG) as source:
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        with ClusterLoad(source) as load:
            load.has_written(500)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await catches_up(run, source)
        first = source.primaries()[0]
        (replica,) = source.replicas_of(first)
        with contextlib.ExitStack() as standstill:
            standstill.enter_context(paused(replica.server))
            first.server.kill()
            await asyncio.to_thread(
                holds, lambda: source.primaries()[1].map().unserved > 0, "nobody serves the slots"
            )
            async with running(settings) as run:
                await run.reaches(
                    lambda: "served by nobody" in (run.task.status().error or ""), "it is told"
                )
                standstill.close()
                await asyncio.to_thread(source.follows, replica)
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream again")
                await catches_up(run, source)
                assert run.task.status().retries["SourceNotReady"] >= 1
                assert await asyncio.to_thread(differences, source, target) == []


async def test_a_line_goes_on_by_partial_resync_on_the_promoted_replica(
    start_server: StartServer,
) -> None:
    target = start_server("redis-8.2")
    # Nothing comes between the last look at the replica and the end of its primary.
    quiet = CONFIG | {"repl-ping-replica-period": 3600}
    with RunningCluster(BINARIES["redis-8.2"], config=quiet) as source:
        settings = make_settings(parse_endpoint(source.url, role="source"), target.endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            with ClusterLoad(source) as load:
                await asyncio.to_thread(load.has_written, 1000)
            await catches_up(run, source)
            first = source.primaries()[0]
            replica = source.replicas_of(first)[0]
            await run.reaches(
                lambda: offset_of(replica.server) == offset_of(first.server),
                "the replica has what its primary has",
            )
            first.server.kill()
            await asyncio.to_thread(source.follows, replica)
            await asyncio.to_thread(source.is_ok)
            with ClusterLoad(source, seed=2) as load:
                await asyncio.to_thread(load.has_written, 1000)
            await catches_up(run, source)
            status = run.task.status()
            assert (status.full_resyncs, status.partial_resyncs) == (3, 1)
            assert status.lines[0].source == replica.server.endpoint.address
            assert await asyncio.to_thread(differences, source, target) == []


@pytest.mark.parametrize(("shards", "replicas"), [(3, 1), (2, 2)])
async def test_a_replica_that_is_read_from_is_killed_and_its_line_goes_on(
    shards: int, replicas: int, start_server: StartServer
) -> None:
    target = start_server("redis-8.2")
    layout = even_ranges(shards)
    with (
        RunningCluster(
            BINARIES["redis-8.2"], layout=layout, replicas=replicas, config=CONFIG
        ) as source,
        ClusterLoad(source) as load,
    ):
        source.replicas_are_known()
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            cluster=ClusterSettings(read_from=ReadFrom.REPLICA),
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 1000)
            before = run.task.status().lines[0].source
            first = source.primaries()[0]
            its = {it.server.endpoint.address: it for it in source.replicas_of(first)}
            its.pop(before).server.kill()
            await run.reaches(
                lambda: run.task.status().lines[0].partial_resyncs == 1, "another node is read"
            )
            await asyncio.to_thread(load.has_written, 1000)
            await asyncio.to_thread(load.stop)
            await catches_up(run, source)
            status = run.task.status()
            assert (status.full_resyncs, status.partial_resyncs) == (shards, 1)
            assert status.source_reconnects == 1
            assert status.lines[0].source in (its or {first.server.endpoint.address})
            assert await asyncio.to_thread(differences, source, target) == []


async def test_a_flush_of_one_shard_removes_its_keys_only(start_server: StartServer) -> None:
    target = start_server("redis-8.2")
    with RunningCluster(BINARIES["redis-8.2"], config=CONFIG) as source:
        with ClusterLoad(source) as load:
            load.has_written(2000)
        settings = make_settings(parse_endpoint(source.url, role="source"), target.endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            source.primaries()[1].ask("FLUSHALL")
            await catches_up(run, source)
            assert await asyncio.to_thread(differences, source, target) == []
            with target.client() as client:
                assert client.dbsize() > 500


async def test_slots_that_move_at_the_source_stop_the_task(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    with RunningCluster(BINARIES["redis-8.2"], config=CONFIG) as source:
        with ClusterLoad(source) as load:
            load.has_written(1000)
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        run = Run(settings)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        await asyncio.to_thread(source.move_slot, 100, source.primaries()[1])
        with pytest.raises(SourceRefused, match="slots of the source have moved"):
            await run.future
        assert run.task.state is TaskState.FAILED
        # There and back again: the map is the same, the epochs are not.
        await asyncio.to_thread(source.move_slot, 100, source.primaries()[0])
        again = Run(settings)
        with pytest.raises(SourceRefused, match="slots of the source have moved"):
            await again.future


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_a_move_between_two_runs_is_noticed_without_the_folder_and_there_is_a_way_on(
    is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(RunningCluster(BINARIES["redis-8.2"], config=CONFIG))
        target: RunningServer | RunningCluster = (
            stack.enter_context(RunningCluster(BINARIES["redis-8.2"], replicas=0))
            if is_cluster
            else start_server("redis-8.2")
        )
        load = stack.enter_context(ClusterLoad(source))
        load.has_written(1000)
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            parse_endpoint(target.url, role="target"),
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        shutil.rmtree(tmp_path / "t1")
        await asyncio.to_thread(source.move_slot, 100, source.primaries()[1])
        with pytest.raises(SourceRefused, match="slots of the source have moved"):
            await Run(settings).future
        # What the message says: forget the task, an empty target, the same again.
        done = await asyncio.to_thread(
            ferry, "tasks", "forget", "t1", "--yes", f"--target={target.url}",
            f"--spool-dir={tmp_path}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for node in target.primaries() if isinstance(target, RunningCluster) else ():
            node.ask("FLUSHALL")
        if isinstance(target, RunningServer):
            target.client().flushall()
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.stop)
            await catches_up(run, source)
            assert await asyncio.to_thread(differences, source, target) == []


async def test_replicas_are_read_and_announced_addresses_mapped(start_server: StartServer) -> None:
    target = start_server("redis-8.2")
    with RunningCluster(BINARIES["redis-8.2"], config=CONFIG) as source:
        with ClusterLoad(source) as load:
            load.has_written(1000)
        endpoint = with_address_map(
            parse_endpoint(source.url, role="source"), [("127.0.0.1", "localhost")]
        )
        settings = make_settings(
            endpoint, target.endpoint, cluster=ClusterSettings(read_from=ReadFrom.REPLICA)
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            replicas = {f"localhost:{it.port}" for s in source.map().shards for it in s.replicas}
            assert {it.source for it in run.task.status().lines} == replicas
            await run.reaches(
                lambda: not run.task.status().expiries_owed and differences(source, target) == [],
                "equal",
            )
