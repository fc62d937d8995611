"""Slots of a source cluster that move: found at the start, while the lines run and when they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from structlog.testing import capture_logs

from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.errors import SourceRefused
from engine.settings import ClusterSettings, Method, ReadFrom, SpoolSettings
from engine.supervision import shard_watch
from engine.supervision.planning import SourceShards
from engine.supervision.shard_watch import ShardWatch
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.control.test_cluster_cli import ferry
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.sides import keys_of_ours
from tests.servers.cluster import PATIENT, ClusterNode, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-backlog-size": "16mb", **PATIENT}
# Gossip is the faster the shorter it is.
TALKATIVE = CONFIG | {"cluster-node-timeout": 3000}
KEYS_OF_A_SHARD = 100
SLOW_MICROSECONDS = 40_000  # for each key of a snapshot


def filled(source: RunningCluster) -> None:
    """So many keys on each shard."""
    found = source.map()
    table, names = found.table(), [f"key:{number}" for number in range(20 * KEYS_OF_A_SHARD)]
    for number, node in enumerate(source.primaries()):
        its = [it for it in names if table[key_slot(it.encode())] == number]
        with node.server.client() as client, client.pipeline(transaction=False) as pipe:
            for name in its[:KEYS_OF_A_SHARD]:
                pipe.set(name, name)
            pipe.execute()


def info(node: ClusterNode, section: str) -> dict[str, Any]:
    with node.server.client() as client:
        return dict(client.info(section))


def never_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is found by the last look."""
    monkeypatch.setattr(shard_watch, "WATCH_SECONDS", 3600.0)


async def refusal(run: Run) -> SourceRefused:
    with pytest.raises(SourceRefused) as caught:
        async with asyncio.timeout(60):
            await run.future
    assert run.task.state is TaskState.FAILED
    return caught.value


def finished(source: RunningCluster, slot: int, to: ClusterNode) -> None:
    source.move_slot(slot, to)


def still_open(source: RunningCluster, slot: int, to: ClusterNode) -> None:
    source.begin_move(slot, to)
    source.move_keys(slot, to)


def atomic(source: RunningCluster, slot: int, to: ClusterNode) -> None:
    source.migrate_slots(slot, slot, to)


@pytest.mark.parametrize(
    ("name", "changes", "move"),
    [
        (NAME, {"method": Method.FULL}, finished),
        (NAME, {"method": Method.FULL}, still_open),
        ("valkey-9.1", {"method": Method.FULL}, atomic),
        (NAME, {"exit_when_synced": True}, finished),
    ],
    ids=["full", "full-open", "full-atomic", "exit-when-synced"],
)
async def test_a_slot_that_moves_between_two_snapshots_is_found_before_done(
    name: str,
    changes: dict[str, Any],
    move: Callable[[RunningCluster, int, ClusterNode], None],
    start_server: StartServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The key is deleted at one shard before its snapshot, and comes to the other one after its snapshot."""
    never_watches(monkeypatch)
    target = start_server(name)
    with RunningCluster(BINARIES[name], replicas=0, config=CONFIG) as source:
        await asyncio.to_thread(filled, source)
        primaries = source.primaries()
        for node in primaries:
            node.ask("CONFIG", "SET", "rdb-key-save-delay", SLOW_MICROSECONDS)
            node.ask("CONFIG", "RESETSTAT")
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
            **changes,
        )
        run = Run(settings)

        def saving() -> ClusterNode | None:
            its = [it for it in primaries if info(it, "persistence")["rdb_bgsave_in_progress"]]
            return its[0] if its else None

        first = await run.reaches(saving, "the first shard makes its snapshot")
        others = [it for it in primaries if it is not first]
        # PING comes behind the line's own look at the map; then it waits for its turn.
        await run.reaches(
            lambda: all("cmdstat_ping" in info(it, "commandstats") for it in others),
            "the other lines have looked at the map",
        )
        for node in others:
            node.ask("CONFIG", "SET", "rdb-key-save-delay", 0)
        key = others[0].ask("RANDOMKEY")
        await asyncio.to_thread(move, source, key_slot(key), first)
        assert saving() is first

        error = await refusal(run)

        assert "slots of the source have moved" in str(error)
        with target.client() as client:
            # What makes it wrong: with --method full the key is in neither snapshot.
            assert client.exists(key) == ("exit_when_synced" in changes)
            assert client.dbsize() > 2 * KEYS_OF_A_SHARD
        # The next run knows it, too.
        assert "slots of the source have moved" in str(await refusal(Run(settings)))


async def test_a_move_in_the_last_moment_before_a_stop_is_told(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_watches(monkeypatch)
    target = start_server(NAME)
    with RunningCluster(BINARIES[NAME], replicas=0, config=CONFIG) as source:
        run = Run(make_settings(parse_endpoint(source.url, role="source"), target.endpoint))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        await asyncio.to_thread(source.move_slot, 100, source.primaries()[1])
        run.task.request_stop()

        assert "the shard that had the slots 0-5460 has 0-99 101-5460 now" in str(
            await refusal(run)
        )


async def test_a_source_that_is_gone_at_the_end_is_named_and_no_failure(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_watches(monkeypatch)
    target = start_server(NAME)
    with RunningCluster(BINARIES[NAME], replicas=0, config=CONFIG) as source:
        await asyncio.to_thread(filled, source)
        settings = make_settings(parse_endpoint(source.url, role="source"), target.endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            assert await asyncio.to_thread(differences, source, target) == []
            addresses = [it.server.endpoint.address for it in source.primaries()]
            for node in source.nodes:
                node.server.kill()
            with capture_logs() as logs:
                await run.stop()
            assert run.task.state is TaskState.STOPPED
            (told,) = [it for it in logs if it["event"] == "source.moves_not_checked"]
            assert [it.split(": ")[0] for it in told["unknown"]] == sorted(addresses)


async def test_the_last_look_asks_who_leads_now_and_believes_the_other_end() -> None:
    with RunningCluster(BINARIES[NAME], config={"repl-backlog-size": "16mb"}) as source:
        shards = SourceShards(None)
        shards.check(source.map())
        watch = ShardWatch(parse_endpoint(source.url, role="source"), shards)
        first, second, third = source.primaries()
        replica = source.replicas_of(second)[0]
        second.server.kill()
        await asyncio.to_thread(source.follows, replica)
        with capture_logs() as logs:
            await watch.look_last()
        assert [it for it in logs if it["log_level"] == "warning"] == []
        source.begin_move(100, third)
        with source.primary_of(100).server.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", 100, "STABLE")
        assert first.map().moving == frozenset()
        with pytest.raises(SourceRefused, match=r"slot 100, which \S+ serves, is being moved"):
            await watch.look_last()


async def test_an_open_slot_is_seen_where_replicas_are_read(start_server: StartServer) -> None:
    """A replica of Redis does not know what its primary hands over."""
    target = start_server(NAME)
    with RunningCluster(BINARIES[NAME], config=TALKATIVE) as source:
        source.replicas_are_known()
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            cluster=ClusterSettings(read_from=ReadFrom.REPLICA),
        )
        run = Run(settings)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        replicas = {it.address for shard in source.map().shards for it in shard.replicas}
        assert {it.source for it in run.task.status().lines} == replicas
        source.begin_move(6000, source.primaries()[2])
        assert not any(it.map().moving for it in source.replicas_of(source.primaries()[1]))

        assert "slot 6000, which" in str(await refusal(run))


@pytest.mark.parametrize("read_from", ReadFrom)
async def test_an_open_slot_at_the_start_is_refused_before_anything_is_written(
    read_from: ReadFrom, start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server(NAME)
    with RunningCluster(BINARIES[NAME], config=CONFIG) as source:
        await asyncio.to_thread(filled, source)
        # The node that is asked for the map has no part in it.
        source.begin_move(6000, source.primaries()[2])
        urls = (source.url, target.url)
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            cluster=ClusterSettings(read_from=read_from),
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        run = Run(settings)
        assert "slots of the source are on their way: slot 6000" in str(await refusal(run))
        assert not run.task.wrote_to_target
        report, ended = await asyncio.gather(
            asyncio.to_thread(ferry, "check", *urls, "--sample-seconds", "0"),
            asyncio.to_thread(
                ferry, "sync", *urls, "--exit-when-synced", f"--read-from={read_from}",
                f"--spool-dir={tmp_path}",
            ),
        )  # fmt: skip
        assert (report.returncode, ended.returncode) == (3, 3), report.stdout + ended.stderr
        assert "slot 6000 of the source cluster is being moved" in report.stdout
        assert "slot 6000" in ended.stderr
        assert is_empty(target)
        # Nothing was noted: when it has arrived the same task begins.
        source.move_keys(6000, source.primaries()[2])
        source.finish_move(6000, source.primaries()[2])
        async with running(settings) as again:
            await again.reaches(lambda: again.task.state is TaskState.STREAM, "the stream")
            assert await asyncio.to_thread(differences, source, target) == []


def is_empty(target: RunningServer) -> bool:
    with target.client() as client:
        return client.dbsize() == 0 and not keys_of_ours(target)


async def test_nodes_that_come_and_go_are_no_move_and_a_new_shard_is(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server(NAME)
    with RunningCluster(BINARIES[NAME], config=TALKATIVE) as source:
        source.replicas_are_known()
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            target.endpoint,
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        run = Run(settings)
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        new = await asyncio.to_thread(source.add_node)
        first, second, _ = source.primaries()
        # A replica goes over to the shard before its own.
        (replica,) = source.replicas_of(second)
        replica.ask("CLUSTER", "REPLICATE", first.node_id)
        await asyncio.to_thread(source.is_ok)
        noted = tmp_path / "t1" / "source-shards.json"
        await until(
            lambda: (
                noted.read_text().count(replica.node_id) == 1
                and replica.node_id in noted.read_text().split('"s5461"')[0]
            ),
            "the replica is noted where it is now",
            running=run.future,
        )
        second.ask("CONFIG", "RESETSTAT")
        await run.reaches(lambda: looks_at(second) >= 2, "the map was looked at again and again")
        await asyncio.to_thread(source.move_slot, 100, new)

        error = str(await refusal(run))

        assert "slots of the source have moved since the task began" in error
        assert "slot 100, which" in error or "the slots 0-5460 has 0-99 101-5460 now" in error


def looks_at(node: ClusterNode) -> int:
    found = info(node, "commandstats").get("cmdstat_cluster|nodes", {"calls": 0})
    return int(found["calls"])


async def test_a_shard_that_is_removed_ends_the_task_by_name(start_server: StartServer) -> None:
    target = start_server(NAME)
    layout = [[(0, 8190)], [(8191, 16381)], [(16382, 16383)]]
    with RunningCluster(BINARIES[NAME], layout=layout, replicas=0, config=CONFIG) as source:
        run = Run(make_settings(parse_endpoint(source.url, role="source"), target.endpoint))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        assert [it.name for it in run.task.status().lines] == ["s0", "s8191", "s16382"]
        first, _, last = source.primaries()
        await asyncio.to_thread(source.move_slots, [16382, 16383], first)
        assert last.node_id not in {it.primary.node_id for it in source.map().shards}

        error = str(await refusal(run))

        assert "slots of the source have moved since the task began" in error
        assert "slot 1638" in error or "that had the slots" in error
