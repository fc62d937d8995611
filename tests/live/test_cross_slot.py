"""Commands over several slots, from a server into a cluster: what they make comes from the source, at its place in the stream."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.codec.slots import key_slot, slot_tags
from engine.endpoint import parse_endpoint
from engine.errors import TargetRejected
from engine.replay.cross_slot_list import read_cross_slot
from engine.settings import CrossSlotPolicy, SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.cross_slot_load import CrossSlotLoad, marks
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.sides import offset_of
from tests.live.test_sentinel import is_even
from tests.servers.cluster import RunningCluster, holds
from tests.servers.sentinels import SentinelTrio

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "16mb"}


def settings_to(source, cluster, folder: Path, **changes):
    return make_settings(
        source.endpoint,
        parse_endpoint(cluster.url, role="target"),
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder / "t1"),
        **changes,
    )


def listed(folder: Path) -> list[dict[str, Any]]:
    return read_cross_slot(folder / "t1", offset=0, limit=10**6)[1]


@pytest.mark.parametrize("name", [it for it in ("redis-8.2",) if it in BINARIES])
async def test_every_kind_under_load(name: str, start_server: StartServer, tmp_path: Path) -> None:
    source = start_server(name, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, CrossSlotLoad(source) as load:
        load.has_written(500)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_used, 1500)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
            status = run.task.status()
            assert status.cross_slot_resolved > 100
            assert status.cross_slot_split > 100
            assert status.keys_resolved > 20  # one that waits is fetched once for many commands
            assert status.full_resyncs == 1
        assert marks(target) == []


async def test_each_is_counted_and_listed_once_also_over_a_lost_connection(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.set("old", 1)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            for number in range(3):
                client.set("old", number)
                client.mset({"a": number, "b": number})
                client.rename("old", "new")
                with client.pipeline(transaction=True) as pipe:
                    pipe.set("a", number).set("c", number).execute()
                await run.reaches_offset(offset_of(source))
                before = run.task.status().target_reconnects
                for node in target.nodes:
                    node.ask("CLIENT", "KILL", "TYPE", "normal")
                await run.reaches(
                    lambda: run.task.status().target_reconnects > before,  # noqa: B023 - awaited here
                    "the loss is noticed",
                )
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.cross_slot == {"MSET": 3, "RENAME": 3}
            assert (status.cross_slot_split, status.cross_slot_resolved) == (6, 3)
            assert await asyncio.to_thread(differences, source, target) == []
        found = [(it["command"], it["keys"], it["handled"]) for it in listed(tmp_path)]
        assert (
            found
            == [
                ("MSET", ["a", "b"], "split"),
                ("RENAME", ["old", "new"], "resolved"),
                ("MULTI", [], "split"),
            ]
            * 3
        )
        assert [dict(it) for it in status.cross_slot_latest] == listed(tmp_path)
        assert [it["offset"] for it in listed(tmp_path)] == sorted(it["offset"] for it in listed(tmp_path))  # fmt: skip


async def test_stop_ends_the_task_by_name_and_nothing_is_half_applied(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.set("old", 1)
        settings = settings_to(source, target, tmp_path, on_cross_slot=CrossSlotPolicy.STOP)
        run = Run(settings)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        with client.pipeline(transaction=True) as pipe:
            pipe.incr("counted").mset({"a": 1, "b": 2}).rename("old", "new").incr("counted")
            pipe.execute()
        with pytest.raises(TargetRejected, match=r"RENAME on key b'old'.*--on-cross-slot resolve"):
            await run.future
        assert [(it["command"], it["handled"]) for it in listed(tmp_path)] == [
            ("MSET", "split"),
            ("RENAME", "stopped"),
        ]
        assert run.task.status().cross_slot_latest[-1]["keys"] == ["old", "new"]
        with target.primary_of(key_slot(b"counted")).server.client() as its:
            assert its.get("counted") is None
        with target.primary_of(key_slot(b"old")).server.client() as its:
            assert its.get("old") == b"1"
        assert marks(target) == []
        async with running(replace(settings, on_cross_slot=CrossSlotPolicy.RESOLVE)) as run:
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
            status = run.task.status()
            assert status.cross_slot == {"MSET": 1, "RENAME": 1}
            assert (status.full_resyncs, status.partial_resyncs) == (0, 1)


async def test_a_line_that_is_always_behind_resolves_all_the_same(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0) as target,
        CrossSlotLoad(source, rate=400) as load,
    ):
        settings = settings_to(source, target, tmp_path, bandwidth_limit_bytes_per_second=20_000)
        load.has_used(20)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")

            def has_resolved_behind() -> bool:
                status = run.task.status()
                return status.keys_resolved > 20 and status.lag_seconds > 1

            await run.reaches(has_resolved_behind, "values have come although the line is behind")
            await asyncio.to_thread(load.stop)
            run.task.set_bandwidth_limit(None)
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
        assert marks(target) == []


async def test_another_source_is_asked_after_a_failover(tmp_path: Path) -> None:
    with (
        SentinelTrio(BINARIES[NAME], config={"repl-backlog-size": "16mb"}) as trio,
        RunningCluster(BINARIES[NAME], replicas=0) as target,
    ):
        settings = make_settings(
            parse_endpoint(trio.url, role="source"),
            parse_endpoint(target.url, role="target"),
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
            bandwidth_limit_bytes_per_second=20_000,
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            with CrossSlotLoad(trio.primary) as load:
                await asyncio.to_thread(load.has_used, 400)
            await asyncio.to_thread(holds, lambda: is_even(trio), "the replica has everything")
            await run.reaches(lambda: run.task.status().keys_in_doubt > 0, "keys are in doubt")
            _, primary = await asyncio.to_thread(trio.fails_over)
            with CrossSlotLoad(primary, seed=2) as load:
                await asyncio.to_thread(load.has_used, 50)
            assert run.task.status().keys_in_doubt > 0
            run.task.set_bandwidth_limit(None)
            await run.reaches_offset(offset_of(primary))
            status = run.task.status()
            assert (status.full_resyncs, status.partial_resyncs) == (1, 1)
            assert await asyncio.to_thread(differences, primary, target) == []
        assert marks(target) == []


async def test_a_source_that_is_a_replica_is_asked_twice_about_what_is_gone(
    start_server: StartServer, tmp_path: Path
) -> None:
    primary = start_server(NAME, config=CONFIG)
    source = start_server(NAME, config=CONFIG)
    with source.client() as client:
        client.replicaof("127.0.0.1", primary.port)
        await asyncio.to_thread(
            holds, lambda: client.info("replication")["master_link_status"] == "up", "the replica"
        )
    with RunningCluster(BINARIES[NAME], replicas=0) as target, primary.client() as client:
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.rpush("l:1", 1)
            client.rpoplpush("l:1", "l:2")
            client.lpop("l:2")  # both are gone, and only the source knows
            client.rpush("l:3", 1, 2)
            client.rpoplpush("l:3", "l:4")
            await run.reaches_offset(offset_of(primary))
            assert run.task.status().cross_slot_resolved == 2
            assert await asyncio.to_thread(differences, primary, target) == []
        assert marks(target) == []


async def test_a_source_that_may_not_be_asked_stops_the_task_by_name(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-dump")
        client.set("old", 1)
        run = Run(settings_to(source, target, tmp_path))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        client.rename("old", "new")
        with pytest.raises(TargetRejected, match=r"RENAME.*permit the source's user.*dump"):
            await run.future


async def test_marks_that_a_run_left_are_resolved_and_a_snapshot_takes_them_away(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG | {"enable-debug-command": "yes"})

    def mark(key: str, wrong: str) -> None:
        """As a killed worker leaves a key in doubt: marked, and stale."""
        node = target.primary_of(slot := key_slot(key.encode()))
        tag = slot_tags()[4 * slot : 4 * slot + 4].decode()
        with node.server.client() as its:
            assert its.hset(f"redis-ferry:slot:{{{tag}}}:t1:0", f"d:{key}", 1) == 1
            its.set(key, wrong)

    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.set("here", "right")
        settings = settings_to(source, target, tmp_path)
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
        mark("here", "wrong")
        mark("gone", "wrong")
        async with running(settings) as run:
            await run.reaches(lambda: run.task.status().keys_resolved == 2, "both are fetched")
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
            assert run.task.status().full_resyncs == 0
        assert marks(target) == []
        mark("here", "wrong")
        client.execute_command("DEBUG", "CHANGE-REPL-ID")
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
            assert run.task.status().full_resyncs == 1
            assert run.task.status().keys_resolved == 0
            assert await asyncio.to_thread(differences, source, target) == []
        assert marks(target) == []
