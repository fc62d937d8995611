"""The pre-flight report of real servers: what is found, what is done about it, and that nothing is changed."""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from engine.checkpoint.checkpoint import checkpoint_key
from engine.demo.servers import RunningServer
from engine.endpoint import Endpoint
from engine.preflight.findings import Finding, Level
from engine.preflight.gather import gather_facts
from engine.preflight.judge import judge
from engine.settings import MIB, TaskSettings
from tests.conditions import until
from tests.fix_servers import BINARIES, StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import filled
from tests.live.test_acl import PAIRS, documented, permit
from tests.live.workload import writing

pytestmark = pytest.mark.live

OK, WARNING, REFUSAL = Level
CLI = next((it.cli_path for it in BINARIES.values() if it.cli_path is not None), None)


@pytest.fixture
def source(start_server: StartServer) -> RunningServer:
    return start_server("redis-6.2", config={"repl-diskless-sync-delay": 0})


@pytest.fixture
def target(start_server: StartServer) -> RunningServer:
    return start_server("redis-8.2")


async def report(settings: TaskSettings, sample_seconds: float = 0) -> dict[str, Finding]:
    """The worst finding of each name."""
    facts = await gather_facts(settings, sample_seconds=sample_seconds)
    order = list(Level)
    found: dict[str, Finding] = {}
    for it in judge(facts):
        if it.name not in found or order.index(it.level) > order.index(found[it.name].level):
            found[it.name] = it
    return found


async def looked(source: Any, target: Any, **changes: Any) -> dict[str, Finding]:
    ends = [it.endpoint if isinstance(it, RunningServer) else it for it in (source, target)]
    return await report(make_settings(*ends, **changes))


def paste(remedy: str) -> str:
    """Run a remedy as the operator would."""
    if CLI is None:
        pytest.skip("no redis-cli on this machine")
    words = shlex.split(remedy, comments=True)
    assert words[0] == "redis-cli"
    ran = subprocess.run([CLI, *words[1:]], capture_output=True, text=True, timeout=10, check=True)
    assert ran.stdout.strip() == "OK", ran.stdout + ran.stderr
    return ran.stdout


def commandstats(server: RunningServer) -> set[str]:
    with server.client() as client:
        return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}


@pytest.mark.parametrize(("old", "new"), PAIRS, ids=["-to-".join(it) for it in PAIRS])
async def test_the_documented_permissions_are_enough_and_nothing_is_changed(
    old: str, new: str, start_server: StartServer
) -> None:
    source, target = start_server(old), start_server(new)
    await filled(source, 300, seed=1)
    with source.client() as client:
        offset = client.info("replication")["master_repl_offset"]

    found = await looked(permit(source, documented("source")), permit(target, documented("target")))

    assert [it for it in found.values() if it.level is REFUSAL] == []
    assert found["source-permissions"].level is OK
    assert found["target-permissions"].level is OK
    with source.client() as client, target.client() as other:
        assert client.info("replication")["connected_slaves"] == 0
        assert client.info("replication")["master_repl_offset"] == offset
        assert client.info("stats")["sync_full"] == 0
        assert other.info("keyspace") == {}


@pytest.mark.parametrize("old", ["redis-6.2", "redis-8.2", "valkey-8.1", "valkey-9.1"])
async def test_an_administrator_learns_whether_psync_is_permitted(
    old: str, start_server: StartServer, target: RunningServer
) -> None:
    source = start_server(old)
    allowed = await looked(source, target)
    endpoint = permit(source, ["on", ">password", "~*", "+@all", "-psync"])

    denied = await looked(endpoint, target)

    assert (allowed["psync"].level, allowed["psync"].text) == (OK, "PSYNC is permitted")
    assert denied["source-permissions"].level is REFUSAL
    assert "PSYNC" in denied["source-permissions"].text
    with source.client() as client:
        assert client.info("stats")["sync_full"] == 0


SOURCE_LACKS = [("ping", REFUSAL), ("replconf", REFUSAL), ("info", WARNING), ("time", WARNING),
                ("pttl", WARNING), ("multi", WARNING), ("exec", WARNING), ("select", WARNING), ("dump", WARNING), ("config|get", WARNING)]  # fmt: skip
TARGET_LACKS = [("info", REFUSAL), ("time", REFUSAL), ("dump", REFUSAL), ("hgetall", REFUSAL), ("set", REFUSAL),
                ("restore", REFUSAL), ("multi", REFUSAL), ("client|setname", REFUSAL), ("publish", WARNING),
                ("eval", WARNING), ("rename", WARNING), ("client|list", WARNING),
                ("scan", WARNING), ("hpexpiretime", WARNING)]  # fmt: skip


@pytest.mark.parametrize(
    ("side", "lacking", "level"),
    [("source", *it) for it in SOURCE_LACKS] + [("target", *it) for it in TARGET_LACKS],
)
async def test_a_permission_that_lacks_is_named_and_the_remedy_grants_it(
    side: str, lacking: str, level: Level, source: RunningServer, target: RunningServer,
    start_server: StartServer,
) -> None:  # fmt: skip
    servers = {"source": start_server("redis-8.2"), "target": target}
    servers = {
        side: servers[side],
        **({"target": target} if side == "source" else {"source": source}),
    }
    endpoints = {
        it: permit(servers[it], documented(it) + ([f"-{lacking}"] if it == side else []))
        for it in servers
    }
    settings = make_settings(endpoints["source"], endpoints["target"])

    found = (await report(settings))[f"{side}-permissions"]
    # The user's own connection cannot ask for the name it is given; the administrator's tool needs no password here.
    paste(found.remedy.replace(" --user default --askpass", ""))
    mended = (await report(settings))[f"{side}-permissions"]

    assert found.level is level
    assert lacking.replace("|", " ").upper() in found.text
    assert mended.level is OK


@pytest.mark.parametrize("new", ["redis-6.2", "redis-8.2"])
async def test_keys_and_channels_that_may_not_be_touched_are_told(
    new: str, source: RunningServer, start_server: StartServer
) -> None:
    target = start_server(new)
    rules = ["on", ">password", "resetkeys", "~app:*", "resetchannels", "+@all"]

    facts = await gather_facts(
        make_settings(source.endpoint, permit(target, rules)), sample_seconds=0
    )

    lacks = {it.rule for it in facts.target.denials}
    assert lacks == {"~*", "&*"}


async def test_a_renamed_psync_is_refused_and_a_closed_config_is_no_obstacle(
    start_server: StartServer, target: RunningServer
) -> None:
    source = start_server("redis-6.2", config={"rename-command": ("PSYNC", "secret-psync")})
    closed = start_server("redis-6.2", config={"rename-command": ("CONFIG", "")})

    renamed, without_config = await looked(source, target), await looked(closed, target)

    assert renamed["psync"].level is REFUSAL
    assert without_config["psync"].level is OK
    assert without_config["backlog"].level is OK
    assert "output-buffer" not in without_config


async def test_what_cannot_be_reached_or_entered_is_refused(
    source: RunningServer, start_server: StartServer
) -> None:
    nobody = Endpoint(host="127.0.0.1", port=1)
    closed = start_server("redis-8.2", config={"requirepass": "s3cret"})

    no_source = await looked(nobody, closed)
    wrong = await looked(source, replace(closed.endpoint, password="wrong"))
    none = await looked(replace(closed.endpoint, password=None), source)

    assert no_source["source"].level is REFUSAL
    assert none["source"].level is REFUSAL
    assert no_source["target"].level is OK
    assert wrong["target"].level is REFUSAL
    assert "login" in wrong["target"].text
    assert "login" in none["source"].text
    assert "s3cret" not in str([*no_source.values(), *wrong.values(), *none.values()])


async def test_the_wrong_kind_of_server_is_refused(
    source: RunningServer, target: RunningServer, start_server: StartServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        bus_port = free.getsockname()[1]
    node = start_server("redis-8.2", config={"cluster-enabled": "yes", "cluster-port": bus_port})
    replica = start_server("redis-8.2")
    with replica.client() as client:
        client.replicaof("127.0.0.1", target.port)

    assert (await looked(node, target))["source-role"].level is REFUSAL
    assert (await looked(source, node))["target-role"].level is REFUSAL
    to_replica = (await looked(source, replica))["target-role"]
    assert to_replica.level is REFUSAL
    assert f"127.0.0.1:{target.port}" in to_replica.text
    paste(to_replica.remedy)
    assert "target-role" not in await looked(source, replica)


async def test_databases_beyond_the_targets_are_refused(
    source: RunningServer, start_server: StartServer
) -> None:
    small = start_server("redis-8.2", config={"databases": 4})
    for db in (0, 3, 4, 9):
        with source.client(db) as client:
            client.set("k", "v")

    for endpoint in (small.endpoint, permit(small, documented("target"))):
        found = (await looked(source, endpoint))["databases"]
        assert found.level is REFUSAL
        assert "database 4" in found.text
        assert found.remedy.endswith("databases 10")


TARGET_CONFIGS: list[tuple[str, Mapping[str, str | int]]] = [
    ("eviction", {"maxmemory": "1gb", "maxmemory-policy": "volatile-lru"}),
    ("min-replicas", {"min-replicas-to-write": 1}),
    ("client-timeout", {"timeout": 20}),
    ("memory", {"maxmemory": "4mb"}),
]


@pytest.mark.parametrize(("name", "config"), TARGET_CONFIGS, ids=[it[0] for it in TARGET_CONFIGS])
async def test_a_target_set_up_badly_is_warned_of_and_the_remedy_mends_it(
    name: str, config: Mapping[str, str | int], source: RunningServer, start_server: StartServer
) -> None:
    target = start_server("redis-8.2", config=config)
    with source.client() as client:
        for number in range(8):
            client.set(f"big:{number}", "x" * MIB)

    before = await looked(source, target)
    paste(before[name].remedy)
    after = await looked(source, target)

    assert before[name].level is WARNING
    assert name not in after or after[name].level is OK


@pytest.mark.parametrize(
    "directives",
    [
        pytest.param({"min-replicas-to-write": 1}, id="no-replicas"),
        pytest.param({"maxmemory": 1}, id="no-memory"),
    ],
)
async def test_a_target_that_refuses_writes_just_now_is_no_reason_to_refuse(
    directives: Mapping[str, int], source: RunningServer, target: RunningServer
) -> None:
    with target.client() as client:
        for name, value in directives.items():
            client.config_set(name, value)

    found = await looked(source, target)

    assert found["target-role"].level is WARNING
    assert [it for it in found.values() if it.level is REFUSAL] == []


async def test_a_backlog_and_buffer_too_small_for_the_measured_rate_are_predicted_and_mended(
    source: RunningServer, target: RunningServer
) -> None:
    with source.client() as client:
        client.config_set("repl-backlog-size", 16 * 1024)
        client.config_set("client-output-buffer-limit", "replica 16kb 0 0")
        for number in range(64):
            client.set(f"big:{number}", "x" * MIB)
    settings = make_settings(source.endpoint, target.endpoint)
    async with writing(source.endpoint, rate=2000) as load:
        await load.has_written(100)
        before = await report(settings, sample_seconds=0.5)
        for name in ("backlog", "output-buffer"):
            paste(before[name].remedy)
        after = await report(settings, sample_seconds=0.5)

    for name in ("backlog", "output-buffer"):
        assert before[name].level is WARNING, before[name]
        assert after[name].level is OK, after[name]
    assert "of writes" in before["backlog"].text


async def test_the_rate_of_a_source_with_a_replica_is_that_of_its_stream(
    source: RunningServer, target: RunningServer
) -> None:
    settings = make_settings(source.endpoint, target.endpoint)
    async with running(settings) as run:
        await run.reaches(lambda: run.task.status().phase == "stream", "the stream phase")
        async with writing(source.endpoint, rate=2000) as load:
            await load.has_written(100)
            facts = await gather_facts(settings, sample_seconds=0.5)
            unmeasured = await gather_facts(settings, sample_seconds=0)

    assert facts.source.write_rate is not None
    assert not facts.source.write_rate.is_upper_bound
    assert 1_000 < facts.source.write_rate.bytes_per_second < 10_000_000
    assert unmeasured.source.write_rate is not None
    assert unmeasured.source.write_rate.is_upper_bound
    # The task that runs is seen as well.
    assert len(facts.target.workers) >= 1
    assert facts.target.checkpoint is not None
    assert facts.target.checkpoint.is_resumable


async def test_checkpoints_on_the_target_are_told(
    source: RunningServer, target: RunningServer
) -> None:
    replid = "a" * 40
    with target.client() as client:
        fields = {
            "format": "1",
            "phase": "stream",
            "epoch": "4",
            "replid": replid,
            "offset": "77",
            "db": "0",
        }
        client.hset(checkpoint_key("t1", "0"), mapping=fields | {"more": "1"})
        client.hset(
            checkpoint_key("t2", "0"), mapping=fields | {"phase": "snapshot", "offset": "-1"}
        )
    settings = make_settings(source.endpoint, target.endpoint)

    found = await report(settings, sample_seconds=0.01)
    other = await report(replace(settings, task_id="t2"), sample_seconds=0)

    assert f"run 4 of this task stands at {replid}:77" in found["checkpoint"].text
    assert "ago" in found["checkpoint"].text
    assert "other tasks: t2" in found["other-tasks"].text
    assert "nothing to go on from" in other["checkpoint"].text
    assert "other-tasks" not in other
    with target.client() as client:
        client.hset(checkpoint_key("t1", "0"), "format", "9")
    assert (await report(settings))["checkpoint"].level is REFUSAL


async def test_keys_on_the_target_are_counted_without_our_own(
    source: RunningServer, target: RunningServer
) -> None:
    with target.client() as client, target.client(3) as other:
        client.set("a", 1)
        other.mset({"b": 1, "c": 1})

    found = (await looked(source, target))["target-keys"]

    assert found.level is WARNING
    assert "3 keys (db0 1, db3 2)" in found.text


async def test_a_source_that_cannot_save_is_warned_of(
    source: RunningServer, target: RunningServer
) -> None:
    with source.client() as client:
        client.set("k", "v")
        (source.directory / "blocked.rdb").mkdir()
        client.config_set("dbfilename", "blocked.rdb")
        client.bgsave()
        await until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save fails"
        )

    assert (await looked(source, target))["bgsave"].level is WARNING


async def test_no_command_that_could_do_harm_was_carried_out(
    source: RunningServer, target: RunningServer
) -> None:
    await looked(permit(source, documented("source")), permit(target, documented("target")))

    assert commandstats(source).isdisjoint({"psync", "sync", "flushall", "set"})
    # What is queued behind MULTI and never executed does not count; SET, DUMP, DEL are the capability probe's.
    assert commandstats(target).isdisjoint({"flushall", "swapdb", "rename", "hset", "publish"})
