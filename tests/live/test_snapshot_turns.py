"""`--snapshots-per-host`: when the shards of a source cluster make their snapshots, by the servers' own logs."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from pathlib import Path

import pytest

from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.settings import ClusterSettings, SpoolSettings, TaskSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.running_task import MIB, Run, make_settings, running
from tests.servers.cluster import PATIENT, ClusterNode, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAMES = [it for it in ("redis-6.2", "redis-8.2", "valkey-9.1") if it in BINARIES]
# Written to a file first, so that the server's log tells when a snapshot began and when the replica had all of it.
CONFIG = {"repl-diskless-sync": "no", "repl-backlog-size": "1mb", **PATIENT}
KEYS_OF_A_SHARD = 400
# A snapshot takes 0.4 s at least; where several are to meet, 2 s.
KEY_DELAY_MICROSECONDS, LONG_KEY_DELAY_MICROSECONDS = 1000, 5000
_EVENT = re.compile(
    r"(\d+ \w+ \d+ [\d:.]+) \* (Starting BGSAVE for SYNC|Synchronization with replica)"
)

Snapshot = tuple[datetime, datetime]


def fill(cluster: RunningCluster, key_delay_microseconds: int = KEY_DELAY_MICROSECONDS) -> None:
    """The same number of keys on each shard, and each takes a while to be saved."""
    for node in cluster.primaries():
        tag = next(
            f"t{n}"
            for n in range(1000)
            if cluster.primary_of(int(node.ask("CLUSTER", "KEYSLOT", f"t{n}"))) is node
        )
        with node.server.client() as client:
            client.mset({f"{{{tag}}}:{n}": n for n in range(KEYS_OF_A_SHARD)})
            client.config_set("rdb-key-save-delay", key_delay_microseconds)


def snapshots_of(server: RunningServer) -> list[Snapshot]:
    """From the BGSAVE's start until the replica had it all, of each that is done."""
    found = _EVENT.findall(server.log_path.read_text(errors="replace"))
    moments = [datetime.strptime(moment, "%d %b %Y %H:%M:%S.%f") for moment, _ in found]
    assert [it.startswith("Start") for _, it in found] == [True, False] * (len(found) // 2)
    return list(zip(moments[::2], moments[1::2], strict=True))


def most_at_once(snapshots: list[Snapshot]) -> int:
    return max(sum(a <= moment < b for a, b in snapshots) for moment, _ in snapshots)


def settings_of(
    cluster: RunningCluster, target: RunningServer, per_host: int, directory: Path
) -> TaskSettings:
    return make_settings(
        parse_endpoint(cluster.url, role="source"),
        target.endpoint,
        cluster=ClusterSettings(snapshots_per_host=per_host),
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=directory),
    )


async def streams(run: Run, cluster: RunningCluster) -> None:
    """Every line is in the stream, and has what its shard has now."""
    wanted = sorted((await asyncio.to_thread(cluster.offsets)).values())

    def is_there() -> bool:
        offsets = sorted(it.applied_offset for it in run.task.status().lines)
        return run.task.state is TaskState.STREAM and all(
            a >= b for a, b in zip(offsets, wanted, strict=True)
        )

    await run.reaches(is_there, "all lines stream")


def lose_backlog(node: ClusterNode) -> None:
    """More is written than the backlog holds, and all of it is removed again."""
    with node.server.client() as client:
        key = client.randomkey()
        value = client.get(key)
        client.config_set("repl-backlog-size", 16_384)
        for _ in range(4):
            client.set(key, b"x" * 100_000)
        client.set(key, value)


@pytest.mark.parametrize(
    ("name", "per_host", "at_once"),
    [*((it, 1, 1) for it in NAMES), (NAMES[0], 0, 3), (NAMES[-1], 2, 2)],
)
async def test_so_many_at_the_same_time(
    name: str, per_host: int, at_once: int, start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server(name)
    with RunningCluster(BINARIES[name], replicas=0, config=CONFIG) as source:
        fill(source, KEY_DELAY_MICROSECONDS if at_once == 1 else LONG_KEY_DELAY_MICROSECONDS)
        async with running(settings_of(source, target, per_host, tmp_path / "t1")) as run:
            await streams(run, source)
            assert run.task.status().full_resyncs == 3
        made = [it for node in source.nodes for it in snapshots_of(node.server)]
        assert len(made) == 3
        assert most_at_once(made) == at_once
        assert await asyncio.to_thread(differences, source, target) == []


@pytest.mark.parametrize("name", NAMES)
async def test_also_when_the_backlogs_were_lost_while_the_worker_was_away(
    name: str, start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server(name)
    with RunningCluster(BINARIES[name], replicas=0, config=CONFIG) as source:
        fill(source)
        settings = settings_of(source, target, 1, tmp_path / "t1")
        async with running(settings) as run:
            await streams(run, source)
        for node in source.nodes:
            lose_backlog(node)
        async with running(settings) as run:
            await streams(run, source)
            assert run.task.status().full_resyncs == 3
        for node in source.nodes:
            with node.server.client() as client:  # each was asked to go on, and could not
                assert client.info("stats")["sync_partial_err"] == 1
        made = [it for node in source.nodes for it in snapshots_of(node.server)]
        assert len(made) == 6
        assert most_at_once(made) == 1
        assert await asyncio.to_thread(differences, source, target) == []


async def test_a_partial_resync_waits_for_nobodys_snapshot(
    start_server: StartServer, tmp_path: Path
) -> None:
    name = NAMES[-1]
    target = start_server(name)
    with RunningCluster(BINARIES[name], replicas=0, config=CONFIG) as source:
        fill(source)
        settings = settings_of(source, target, 1, tmp_path / "t1")
        async with running(settings) as run:
            await streams(run, source)
        slow = source.primaries()[0]
        lose_backlog(slow)
        slow.ask("CONFIG", "SET", "rdb-key-save-delay", 200_000)  # 80 s
        async with running(settings) as run:
            await run.reaches(lambda: run.task.status().partial_resyncs == 2, "the others go on")
            await run.reaches(lambda: _is_saving(slow), "the first one makes a snapshot")
            # They are not only connected: what is written goes through meanwhile.
            for node in source.primaries()[1:]:
                with node.server.client() as client:
                    client.set(client.randomkey(), "changed meanwhile")
            with target.client() as client:
                await run.reaches(
                    lambda: (
                        [client.get(it) for it in client.scan_iter("{*")].count(
                            b"changed meanwhile"
                        )
                        == 2
                    ),
                    "both writes are on the target",
                )
            assert _is_saving(slow)
            # Two snapshots more to come, were the first over: nobody else waits for one.
            assert run.task.status().full_resyncs == 1


def _is_saving(node: ClusterNode) -> bool:
    with node.server.client() as client:
        return bool(client.info("persistence")["rdb_bgsave_in_progress"])
