"""Facts in, findings out: what is a warning, what a refusal, and what is said to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.errors import SourceUnreachable, TargetNotReady, TargetRefused
from engine.preflight.facts import Facts, OutputBufferLimit, SpoolDisk
from engine.preflight.findings import Level, worst
from engine.preflight.judge import judge
from engine.preflight.judge_load import breaks_limit
from engine.preflight.permissions import Answer, Denial
from engine.selection import Selection
from engine.settings import GIB, MIB, ConflictPolicy, FieldTtlPolicy, Method
from tests.preflight.made_facts import (
    FACTS,
    STREAMING,
    UNFINISHED,
    facts,
    named,
    rate,
)

OK, WARNING, REFUSAL = Level
REQUIRED = Denial(rule="+psync", command="PSYNC", is_required=True)
OPTIONAL = Denial(rule="+publish", command="PUBLISH", means="it stops")
NO_LIMIT = OutputBufferLimit(hard_bytes=0, soft_bytes=0, soft_seconds=0)
UNREACHABLE = SourceUnreachable("cannot connect to the source old:6379: refused", hint="start it")


def case(name: str, level: Level, says: str, remedy: str, *, of: str = "", **changes: Any) -> Any:
    return pytest.param(name, level, says, remedy, changes, id=of or f"{name}-{level}")


CASES = [
    # access
    case("source", OK, "Redis 7.2.4 at old:6379, RDB 11", ""),
    case("source", REFUSAL, "cannot connect", "start it", source={"error": UNREACHABLE}),
    case("source-role", OK, "a primary", ""),
    case("source-role", REFUSAL, "map cannot be asked", "+cluster|nodes", source={"is_cluster": True}),
    case("source-role", REFUSAL, "served by nobody", "CLUSTER INFO", of="a torn cluster",
         source={"is_cluster": True, "shards": 2, "slots_unserved": 5}),
    case("source-role", REFUSAL, "slot 7 of the source cluster is being moved",
         "redis-cli -h old -p 6379 --cluster fix old:6379", of="a slot in motion",
         source={"is_cluster": True, "shards": 2, "slots_moving": frozenset({7, 9})}),
    case("source-role", OK, "cluster of 3 shards", "", of="a cluster",
         source={"is_cluster": True, "shards": 3}),
    case("source-role", OK, "replica of p:1", "", of="replica", source={"primary": "p:1"}),
    case("source-role", WARNING, "without a link", "redis-cli -h old -p 6379 INFO replication",
         of="cut-off", source={"primary": "p:1", "is_primary_link_up": False}),
    case("source-role", WARNING, "INFO is not permitted", "ACL SETUSER ferry +info",
         of="closed", source={"has_info": False}),
    case("psync", OK, "permitted", ""),
    case("psync", OK, "ACL DRYRUN ferry PSYNC '?' -1", "", of="psync-unknown",
         source={"psync": Answer.UNKNOWN}),
    case("psync", REFUSAL, "renamed or disabled", "COMMAND INFO psync",
         source={"psync": Answer.ABSENT}),
    case("source-permissions", OK, "ferry has every permission", ""),
    case("source-permissions", REFUSAL, "PSYNC", "redis-cli -h old -p 6379 ACL SETUSER ferry +psync",
         source={"denials": (REQUIRED,)}),
    case("target-permissions", WARNING, "PUBLISH: it stops",
         "redis-cli -h new -p 6380 ACL SETUSER ferry +publish", target={"denials": (OPTIONAL,)}),
    case("target", OK, "Redis 8.2.3 at new:6380, RDB 12", ""),
    case("target", REFUSAL, "not there", "start it", target={"error": TargetRefused("not there", hint="start it")}),
    case("target-role", REFUSAL, "served by nobody", "CLUSTER INFO", of="a torn cluster",
         target={"is_cluster": True, "slots_unserved": 5}),
    case("target-role", OK, "a cluster of 3 shards", "", target={"is_cluster": True, "shards": 3}),
    case("databases", REFUSAL, "database 0 only", "standalone", of="a cluster",
         target={"is_cluster": True, "missing_db": 3}),
    case("target-role", REFUSAL, "replica of p:1", "REPLICAOF NO ONE", of="target-replica",
         target={"primary": "p:1"}),
    case("target-role", WARNING, "at the moment", "INFO", of="target-full",
         target={"refusal": TargetNotReady("new:6380 is out of memory", code="OOM")}),
    case("target-role", WARNING, "at the moment", "INFO", of="target-full-wrapped",
         target={"refusal": TargetRefused("caused error: ('NOREPLICAS Not enough',)")}),
    case("target-role", REFUSAL, "too old", "a newer one", of="target-old",
         target={"refusal": TargetRefused("too old", hint="a newer one")}),
    # load
    case("backlog", OK, "at 1.0 MiB/s of writes the backlog of 256.0 MiB covers 4 min 16 s", ""),
    case("backlog", WARNING, "at 40.0 MiB/s of writes the backlog of 1.0 MiB covers 25 ms",
         "redis-cli -h old -p 6379 CONFIG SET repl-backlog-size 8192mb",
         source={"backlog_bytes": MIB, "write_rate": rate(40 * MIB)}),
    case("backlog", OK, "no writes at the moment", "", of="backlog-idle",
         source={"backlog_bytes": MIB, "write_rate": rate(0)}),
    case("backlog", OK, "at 1.0 KiB/s of writes at most", "", of="backlog-bound",
         source={"write_rate": rate(1024, is_upper_bound=True)}),
    case("backlog", OK, "at 10.0 MiB/s of traffic just now", "", of="backlog-glimpse",
         source={"backlog_bytes": 64 * MIB, "write_rate": rate(10 * MIB, seconds=0.0)}),
    case("backlog", WARNING, "traffic just now", "CONFIG SET repl-backlog-size", of="backlog-glimpse-small",
         source={"backlog_bytes": MIB, "write_rate": rate(10 * MIB, seconds=0.0)}),
    case("backlog", OK, "not known", "", of="backlog-unknown", source={"write_rate": None}),
    case("output-buffer", OK, "takes about 20 s; 20.5 MiB of writes wait", ""),
    case("output-buffer", WARNING, "819.2 MiB of writes wait at the source meanwhile, the replica buffer limit is "
         "256.0 MiB / 64.0 MiB for 60 s",
         "redis-cli -h old -p 6379 CONFIG SET client-output-buffer-limit 'replica 0 0 0'",
         source={"write_rate": rate(40 * MIB)}),
    case("output-buffer", WARNING, "would drop the link", "'slave 0 0 0'", of="output-buffer-old",
         source={"write_rate": rate(40 * MIB), "version": (4, 0, 1)}),
    case("output-buffer", OK, "no limit", "", of="output-buffer-open",
         source={"output_buffer": NO_LIMIT, "write_rate": rate(40 * MIB)}),
    case("bgsave", WARNING, "last save failed", "BGSAVE", source={"is_last_save_good": False}),
    case("repl-timeout", OK, "60 s", ""),
    case("repl-timeout", WARNING, "5 s", "CONFIG SET repl-timeout 60",
         source={"repl_timeout_seconds": 5}),
    case("diskless-delay", OK, "5 s", ""),
    case("diskless-delay", WARNING, "100 s", "CONFIG SET repl-diskless-sync-delay 0",
         source={"diskless_delay_seconds": 100}),
    case("spool", OK, "takes about 51 s at some 60.0 MiB/s; until then up to 1.8 GiB wait here: the spool takes them", ""),
    case("spool", OK, "32.0 MiB of memory take them", "", of="spool-memory",
         source={"dataset_bytes": 10 * MIB}),
    case("spool", WARNING, "at the limit of 5.0 MiB/s", "--spool-disk-gb 41",
         source={"write_rate": rate(40 * MIB)}, plan={"limit_bytes_per_second": 5 * MIB}),
    case("spool", WARNING, "0 B on disk", "--spool-dir", of="spool-no-disk", disk=None),
    case("bandwidth-limit", WARNING, "never catches up",
         "redis-ferry tasks set t1 --bandwidth-limit-mb none",
         source={"write_rate": rate(40 * MIB)}, plan={"limit_bytes_per_second": 5 * MIB}),
    case("bandwidth-limit", WARNING, "traffic just now", "none", of="limit-glimpse",
         source={"write_rate": rate(60 * MIB, seconds=0.0)}, plan={"limit_bytes_per_second": 5 * MIB}),
    case("spool-disk", OK, "100.0 GiB are free at /spool/t1", ""),
    case("spool-disk", WARNING, "10.0 GiB are free", "--spool-disk-gb 9",
         disk=SpoolDisk(folder="/spool/t1", budget_bytes=16 * GIB, free_bytes=10 * GIB)),
    case("spool-disk", WARNING, "Permission denied", "--spool-dir", of="spool-disk-closed",
         disk=SpoolDisk(folder="/spool/t1", budget_bytes=16 * GIB, error="Permission denied")),
    # target
    case("memory", OK, "no maxmemory; the source's data take 3.0 GiB", ""),
    case("memory", WARNING, "1,023.0 MiB of the target's maxmemory of 1.0 GiB are free, the source's data take 3.0 GiB",
         "redis-cli -h new -p 6380 CONFIG SET maxmemory 3904mb", target={"maxmemory_bytes": GIB}),
    case("memory", OK, "3.0 GiB", "", of="memory-enough", target={"maxmemory_bytes": 4 * GIB}),
    case("memory", OK, "there already", "", of="memory-resumed",
         target={"maxmemory_bytes": GIB, "checkpoint": STREAMING}),
    case("eviction", WARNING, "keys with a TTL", "CONFIG SET maxmemory-policy noeviction",
         target={"maxmemory_bytes": 4 * GIB, "maxmemory_policy": "volatile-lru"}),
    case("eviction", WARNING, "any key", "noeviction", of="eviction-all",
         target={"maxmemory_bytes": 4 * GIB, "maxmemory_policy": "allkeys-lfu"}),
    case("eviction", OK, "evicts nothing", "", target={"maxmemory_policy": "allkeys-lfu"}),
    case("persistence", OK, "appendfsync everysec", ""),
    case("persistence", OK, "every block waits", "", of="always", target={"appendfsync": "always"}),
    case("persistence", OK, "no append-only file", "", of="no-aof", target={"appendfsync": None}),
    case("min-replicas", WARNING, "wants 2 replicas and has 1", "min-replicas-to-write 0",
         target={"replicas_needed": 2, "replicas_good": 1}),
    case("min-replicas", OK, "has them", "", target={"replicas_needed": 2, "replicas_good": 2}),
    case("client-timeout", WARNING, "30 s", "CONFIG SET timeout 0",
         target={"client_timeout_seconds": 30}),
    case("scripts", OK, "Redis 4.0.1 replicates scripts as EVAL; the target calls them slow after 5.0 s", "",
         source={"version": (4, 0, 1)}),
    # content
    case("value-types", OK, "every core type", ""),
    case("value-types", WARNING, "no TTLs of hash fields", "--field-ttls drop",
         source={"product": "valkey", "version": (9, 0, 0)}, target={"redis_types": frozenset(range(22))}),
    case("value-types", WARNING, "they are dropped", "newer target", of="types-dropped",
         source={"version": (8, 2, 3)}, target={"redis_types": frozenset(range(22))},
         plan={"field_ttls": FieldTtlPolicy.DROP}),
    case("databases", OK, "0, 3", ""),
    case("databases", REFUSAL, "uses database 3, more than the target has (2)", "databases 4",
         target={"missing_db": 3, "databases": 2}),
    case("databases", OK, "0, 3, which become 3, 5; the target has them", "", of="databases-mapped",
         plan={"selection": Selection(db_map=((0, 5),))}),
    case("databases", WARNING, "none of the databases that the source uses (0, 3)", "--databases", of="databases-none",
         plan={"selection": Selection(databases=frozenset({7}))}),
    case("databases", REFUSAL, "uses database 3, which goes to 20, more than the target has (16)", "databases 21",
         of="databases-mapped-too-high", target={"missing_db": 20, "databases": 16},
         plan={"selection": Selection(db_map=((3, 20),))}),
    case("databases", REFUSAL, "uses database 3, and a cluster has database 0 only", "--db-map 3:0",
         of="databases-cluster", target={"missing_db": 3, "is_cluster": True}),
    case("selection", OK, "--databases 0", "", plan={"selection": Selection(databases=frozenset({0}))}),
    case("modules", WARNING, "lacks: bf", "redis-cli -h new -p 6380 MODULE LOAD",
         source={"modules": frozenset({"bf", "lua", "search"})}, target={"modules": frozenset({"search"})}),
    case("modules", OK, "has the source's modules: search", "",
         source={"modules": frozenset({"search"})}, target={"modules": frozenset({"search"})}),
    case("modules", OK, "may not be asked", "", of="modules-closed",
         source={"modules": frozenset({"search"})}, target={"modules": None}),
    case("checkpoint", OK, f"run 3 of this task stands at {'f' * 40}:100, last used 1 min 30 s ago", "",
         target={"checkpoint": STREAMING}),
    case("checkpoint", OK, "nothing to go on from: a new snapshot", "", of="checkpoint-unfinished",
         target={"checkpoint": UNFINISHED}),
    case("checkpoint", OK, "starts anew", "", of="checkpoint-full",
         target={"checkpoint": STREAMING}, plan={"method": Method.FULL}),
    case("checkpoint", REFUSAL, "format 9", "another --task-id",
         target={"checkpoint_error": TargetRefused("format 9", hint="another --task-id")}),
    case("checkpoint", REFUSAL, "another choice of keys, databases or commands: --databases 3", "tasks forget",
         of="checkpoint-selection", target={"checkpoint": replace(STREAMING, selection="--databases 3")}),
    case("checkpoint", WARNING, "would take over", "tasks list", target={"workers": ("a", "b")}),
    case("target-keys", OK, "is empty", ""),
    case("target-keys", WARNING, "the target has 5 keys (db0 2, db7 3): those with a name that the source has, too, are overwritten",
         "--on-conflict", target={"keys": {7: 3, 0: 2}}),
    case("target-keys", WARNING, "stops the migration", "--on-conflict", of="keys-fail",
         target={"keys": {0: 2}}, plan={"on_conflict": ConflictPolicy.FAIL}),
    case("target-keys", OK, "are kept", "", of="keys-skip",
         target={"keys": {0: 2}}, plan={"on_conflict": ConflictPolicy.SKIP}),
    case("target-keys", OK, "this task's own", "", of="keys-resumed",
         target={"keys": {0: 3}, "checkpoint": STREAMING, "own_keys": 1}),
    case("target-keys", OK, "is empty", "", of="keys-only-checkpoint",
         target={"keys": {0: 1}, "checkpoint": UNFINISHED, "own_keys": 1}),
    case("target-keys", OK, "the target has 1 key (db0 1), this task's own", "", of="keys-of-slots",
         target={"keys": {0: 16386}, "checkpoint": STREAMING, "own_keys": 16385}),
    case("target-keys", WARNING, "the target has 2 keys (db0 1, db1 1): those", "--on-conflict", of="keys-and-another-task",
         target={"keys": {0: 2, 1: 1}, "own_keys": 1, "other_tasks": ("other",)}),
    case("other-tasks", OK, "a, b, c, d, e and 1 more", "", target={"other_tasks": tuple("abcdef")}),
    case("clocks", OK, "differ by 3 ms", ""),
    case("clocks", WARNING, "42 s ahead: keys expire that much earlier", "set-ntp true",
         target={"clock_offset_ms": 42_000}),
    case("clocks", WARNING, "behind: keys expire that much later", "set-ntp true", of="clock-behind",
         source={"clock_offset_ms": 42_000}),
]  # fmt: skip


def test_databases_that_share_one_are_named() -> None:
    folded = facts(plan={"selection": Selection(db_map=((3, 0),))})
    _, found = named("selection", folded)
    assert found.level is WARNING
    assert "databases 0, 3 of the source share database 0 of the target" in found.text
    assert "--on-unsupported skip" in found.remedy


@pytest.mark.parametrize(("name", "level", "says", "remedy", "changes"), CASES)
def test_a_fact_makes_its_finding(
    name: str, level: Level, says: str, remedy: str, changes: dict[str, Any]
) -> None:
    (found,) = named(name, facts(**changes))

    assert found.level is level
    assert says in found.text
    assert remedy in found.remedy
    assert bool(found.remedy) is bool(remedy)


def test_each_saves_failure_of_the_target_is_told() -> None:
    found = named(
        "persistence", facts(target={"is_last_save_good": False, "is_last_aof_write_good": False})
    )

    assert [it.level for it in found] == [WARNING, WARNING]
    assert all("MISCONF" in it.text for it in found)


def test_required_and_other_permissions_are_told_apart_and_granted_together() -> None:
    refused, warned = named("source-permissions", facts(source={"denials": (OPTIONAL, REQUIRED)}))

    assert (refused.level, warned.level) == (REFUSAL, WARNING)
    assert refused.remedy.endswith("ACL SETUSER ferry +psync +publish")
    assert warned.remedy.endswith("ACL SETUSER ferry +publish")


def test_a_burst_of_traffic_is_not_taken_for_writes() -> None:
    glimpse = {"write_rate": rate(40 * MIB, seconds=0.0)}

    found = judge(facts(source=glimpse, plan={"limit_bytes_per_second": 5 * MIB}))

    assert [it.name for it in found if it.level is not OK] == []


def test_with_nothing_wrong_all_is_ok() -> None:
    assert worst(judge(FACTS)) is OK


def test_what_is_not_known_makes_no_warning_but_that_it_is_not() -> None:
    from engine.preflight.facts import Plan, SourceState, TargetState

    unknown = Facts(
        plan=Plan(task_id="t1"),
        source=SourceState(endpoint=FACTS.source.endpoint, has_info=False),
        target=TargetState(endpoint=FACTS.target.endpoint, has_info=False),
    )

    assert [it.name for it in judge(unknown) if it.level is not OK] == ["source-role"]


def test_every_finding_is_one_line() -> None:
    for it in CASES:
        for found in judge(facts(**it.values[4])):
            assert "\n" not in found.text + found.remedy
            assert found.text


def test_of_a_side_that_cannot_be_asked_nothing_is_judged() -> None:
    found = judge(facts(source={"error": UNREACHABLE}))

    names = {it.name for it in found if it.side != "target"}
    assert names == {"source"}
    assert "value-types" not in {it.name for it in found}


@pytest.mark.parametrize(
    ("hard", "soft", "soft_seconds", "backlog", "per_second", "seconds", "breaks"),
    [
        pytest.param(256, 64, 60, 1, 100, 2, False, id="under-hard"),
        pytest.param(256, 64, 60, 1, 100, 3, True, id="over-hard"),
        pytest.param(0, 64, 60, 1, 1, 124, False, id="soft-not-long-enough"),
        pytest.param(0, 64, 60, 1, 1, 125, True, id="soft-too-long"),
        pytest.param(256, 0, 0, 512, 100, 5, False, id="backlog-lifts-hard"),
        pytest.param(0, 0, 0, 1, 1000, 1000, False, id="no-limits"),
    ],
)
def test_the_limit_of_the_output_buffer(
    hard: int,
    soft: int,
    soft_seconds: int,
    backlog: int,
    per_second: int,
    seconds: int,
    breaks: bool,
) -> None:
    limit = OutputBufferLimit(hard_bytes=hard, soft_bytes=soft, soft_seconds=soft_seconds)

    assert (
        breaks_limit(limit, backlog_bytes=backlog, bytes_per_second=per_second, seconds=seconds)
        is breaks
    )
