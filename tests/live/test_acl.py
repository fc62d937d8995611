"""The least permissions that OPERATIONS.md names are enough, and what lacks is named at the start."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from engine.control.exit_status import REFUSED, exit_status
from engine.demo.servers import RunningServer
from engine.endpoint import Endpoint, parse_endpoint
from engine.errors import EngineError
from engine.settings import SpoolSettings
from tests.corpus_files import RecordedStream
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences as cluster_differences
from tests.live.recorded_state import described, differences, read_state
from tests.live.running_task import make_settings, migrate, running
from tests.live.sides import compared, filled, has_functions, offset_of
from tests.live.test_cluster_source import catches_up
from tests.live.workload import writing
from tests.servers.cluster import RunningCluster, even_ranges
from tests.servers.scripted_source import ScriptedSource

pytestmark = pytest.mark.live

OPERATIONS = Path(__file__).parents[2] / "OPERATIONS.md"
PAIRS = [("redis-6.2", "redis-8.2"), ("redis-8.2", "redis-8.2"), ("valkey-8.1", "valkey-9.1")]
UNKNOWN = "Unknown command or category"
NO_DELAY = {"repl-diskless-sync-delay": 0}


def documented(side: str) -> list[str]:
    """The rules behind `ACL SETUSER ferry` for `side`."""
    found = re.search(
        rf"^ +{side}: ACL SETUSER ferry ((?:\S+ ?)+(?:\n +[+-]\S+(?: \S+)*)*)$",
        OPERATIONS.read_text(),
        re.MULTILINE,
    )
    assert found is not None, f"OPERATIONS.md has no ACL line for the {side}"
    return found[1].split()


def permit(server: RunningServer, rules: list[str]) -> Endpoint:
    """Make the user, without what the server does not know, and return how to come in as it."""
    with server.client() as admin:
        for rule in rules:
            try:
                admin.execute_command("ACL", "SETUSER", "ferry", rule)
            except redis.ResponseError as error:
                if UNKNOWN not in str(error):
                    raise
        admin.execute_command("ACL", "LOG", "RESET")
    return replace(server.endpoint, username="ferry", password="password")


def denied(server: RunningServer) -> list[str]:
    """What the server did not permit: reason, object, user."""
    with server.client() as admin:
        entries = [
            dict(zip(it[::2], it[1::2], strict=True)) for it in admin.execute_command("ACL", "LOG")
        ]
    return [b" ".join((it[b"reason"], it[b"object"], it[b"username"])).decode() for it in entries]


def was_asked(server: RunningServer, command: str) -> bool:
    """Whether the command has come in, permitted or not."""
    with server.client() as client:
        return f"cmdstat_{command}" in client.info("commandstats")


def write_what_the_load_does_not(source: RunningServer) -> None:
    """Every command in the stream that is not in @write everywhere, and the dangerous ones."""
    with source.client(db=7) as client:
        client.pfadd("hll", *range(100))
        client.pfcount("hll")  # a read that replicates: it keeps the count it has found
        client.rpush("numbers", 3, 1, 2)
        client.sort("numbers", store="sorted")
        client.script_load("return 1")
        client.eval("return redis.call('SET', KEYS[1], redis.call('GET', KEYS[2]))", 2, "a", "hll")
        client.publish("channel", "message")
        client.set("restored", 1)
        client.restore("copy", 0, client.dump("restored"))
        client.expire("copy", 100_000)
        client.execute_command("SWAPDB", 7, 8)
        client.flushdb()
        if has_functions(source):
            client.execute_command("SPUBLISH", "channel", "message")
            client.function_load(
                "#!lua name=acl\nredis.register_function('f', function() return 1 end)"
            )
            client.function_delete("acl")


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=["-to-".join(it) for it in PAIRS])
async def test_the_documented_permissions_are_enough(
    old: str, new: str, start_server: StartServer
) -> None:
    source, target = start_server(old, config=NO_DELAY), start_server(new)
    settings = make_settings(
        permit(source, documented("source")), permit(target, documented("target"))
    )
    await filled(source, 3000, seed=3)

    async with writing(source.endpoint, rate=1500) as load:
        await load.has_written(500)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.status().phase == "stream", "the stream phase")
            await asyncio.to_thread(write_what_the_load_does_not, source)
            await load.has_written(1000)
            await load.stop()
            await run.reaches_offset(offset_of(source))
            await run.reaches(lambda: run.task.status().lag_bytes == 0, "no lag")

    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert denied(source) == []
    assert denied(target) == []
    assert run.task.status().errors == 0


async def test_the_documented_permissions_are_enough_for_clusters(tmp_path: Path) -> None:
    binary = BINARIES["redis-8.2"] if "redis-8.2" in BINARIES else pytest.skip("no redis-8.2")
    with (
        RunningCluster(binary, replicas=0, config=NO_DELAY) as source,
        RunningCluster(binary, replicas=0, layout=even_ranges(2)) as target,
    ):
        endpoints: dict[str, Endpoint] = {}
        for side, cluster in {"source": source, "target": target}.items():
            more = documented(f"{side} cluster")
            assert more
            for node in cluster.nodes:
                permit(node.server, documented(side) + more)
            url = parse_endpoint(cluster.url, role=side)  # type: ignore[arg-type]
            endpoints[side] = replace(url, username="ferry", password="password")
        spool = SpoolSettings(directory=tmp_path / "t1")
        with ClusterLoad(source) as load:
            load.has_written(2000)
            async with running(make_settings(**endpoints, spool=spool)) as run:
                await run.reaches(lambda: run.task.status().phase == "stream", "the stream phase")
                await asyncio.to_thread(load.has_written, 1000)
                await asyncio.to_thread(load.stop)
                await catches_up(run, source)
                assert await asyncio.to_thread(cluster_differences, source, target) == []
        for cluster in (source, target):
            assert [denied(node.server) for node in cluster.nodes] == [[]] * len(cluster.nodes)


async def test_late_relative_times_are_corrected_with_the_documented_permissions(
    start_server: StartServer,
) -> None:
    source, target = start_server("redis-6.2", config=NO_DELAY), start_server("redis-8.2")
    await filled(source, 3000, seed=4)
    settings = make_settings(
        permit(source, documented("source")),
        permit(target, documented("target")),
        bandwidth_limit_bytes_per_second=64 * 1024,
    )

    async with running(settings) as run:
        await run.reaches(lambda: run.task.status().keys_applied, "keys are applied")
        with source.client(db=3) as client:
            # Behind the snapshot: they wait at the source, which does not say for how long.
            client.execute_command("SETEX", "late", 1000, "value")
            client.set("later", "value", ex=2000)
        assert run.task.status().phase == "snapshot"
        run.task.set_bandwidth_limit(None)
        await run.reaches_offset(offset_of(source))
        await run.reaches(lambda: was_asked(source, "pttl"), "the source is asked for the times")

    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert denied(source) == denied(target) == []


async def test_scripts_of_an_old_source_run_with_the_permission_to_read(
    start_server: StartServer,
) -> None:
    recording = RecordedStream("redis-2.8.24")  # it replicates EVAL itself
    source, target = ScriptedSource(recording, seed=5), start_server("redis-8.2")
    endpoint = permit(target, [*documented("target"), "+@read"])

    async with source.playing(), running(make_settings(source.endpoint, endpoint)) as run:
        await run.reaches_offset(source.offset_at_end)

    state = await asyncio.to_thread(read_state, target.client, field_ttls=True)
    assert differences(described(source.expected["dbs"]), state) == []
    assert denied(target) == []


@pytest.mark.parametrize(
    ("side", "lacking"),
    [
        ("source", "ping"),
        ("source", "psync"),
        ("target", "info"),
        ("target", "time"),
        ("target", "dump"),
        ("target", "hgetall"),
        ("target", "set"),
        ("target", "restore"),
        ("target", "multi"),
        ("target", "client|setname"),
    ],
)
async def test_a_permission_that_lacks_is_named_before_anything_is_written(
    side: str, lacking: str, start_server: StartServer
) -> None:
    servers = {it: start_server("redis-8.2", config=NO_DELAY) for it in ("source", "target")}
    endpoints: dict[str, Any] = {
        it: permit(servers[it], documented(it) + ([f"-{lacking}"] if it == side else []))
        for it in servers
    }

    with pytest.raises(EngineError) as caught:
        await migrate(make_settings(**endpoints))

    assert exit_status(caught.value) == REFUSED
    assert f"the {side}" in caught.value.message
    assert lacking in caught.value.message.lower()
    assert caught.value.hint
    with servers["target"].client() as client:
        assert client.dbsize() == 0
