"""Facts of two servers with which all is well, to be changed by a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.endpoint import Endpoint
from engine.preflight.facts import (
    Facts,
    FoundCheckpoint,
    OutputBufferLimit,
    Plan,
    SourceState,
    SpoolDisk,
    TargetState,
    WriteRate,
)
from engine.preflight.findings import Finding
from engine.preflight.judge import judge
from engine.preflight.permissions import Answer
from engine.settings import GIB, MIB

SOURCE = SourceState(
    endpoint=Endpoint(host="old", port=6379),
    product="redis",
    version=(7, 2, 4),
    user="ferry",
    keys={0: 1000, 3: 10},
    modules=frozenset(),
    used_memory_bytes=4 * GIB,
    is_last_save_good=True,
    clock_offset_ms=0,
    psync=Answer.ALLOWED,
    dataset_bytes=3 * GIB,
    backlog_bytes=256 * MIB,
    write_rate=WriteRate(bytes_per_second=1.0 * MIB, is_upper_bound=False, seconds=2.0),
    output_buffer=OutputBufferLimit(hard_bytes=256 * MIB, soft_bytes=64 * MIB, soft_seconds=60),
    repl_timeout_seconds=60,
    diskless_delay_seconds=5,
)
TARGET = TargetState(
    endpoint=Endpoint(host="new", port=6380),
    product="redis",
    version=(8, 2, 3),
    user="ferry",
    modules=frozenset(),
    used_memory_bytes=1 * MIB,
    is_last_save_good=True,
    clock_offset_ms=3,
    rdb_version=12,
    redis_types=frozenset({*range(22), 24, 25}),
    valkey_types=frozenset(range(22)),
    databases=16,
    maxmemory_bytes=0,
    maxmemory_policy="noeviction",
    replicas_needed=0,
    stops_writes_on_save_error=True,
    appendfsync="everysec",
    is_last_aof_write_good=True,
    client_timeout_seconds=0,
    script_limit_ms=5000,
)
FACTS = Facts(
    plan=Plan(task_id="t1", spool_memory_bytes=32 * MIB),
    source=SOURCE,
    target=TARGET,
    disk=SpoolDisk(folder="/spool/t1", budget_bytes=16 * GIB, free_bytes=100 * GIB),
)
STREAMING = FoundCheckpoint(task_id="t1", offset=100, replid="f" * 40, epoch=3, age_seconds=90.0)
UNFINISHED = FoundCheckpoint(task_id="t1", offset=-1, replid="", epoch=1)


def facts(
    source: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
    **changes: Any,
) -> Facts:
    """FACTS with changes to the source's, the target's and the plan's fields."""
    return replace(
        FACTS,
        source=replace(SOURCE, **(source or {})),
        target=replace(TARGET, **(target or {})),
        plan=replace(FACTS.plan, **(plan or {})),
        **changes,
    )


def named(name: str, found: Facts) -> list[Finding]:
    """The findings of one name."""
    return [it for it in judge(found) if it.name == name]


def rate(
    bytes_per_second: float, *, is_upper_bound: bool = False, seconds: float = 2.0
) -> WriteRate:
    return WriteRate(
        bytes_per_second=bytes_per_second, is_upper_bound=is_upper_bound, seconds=seconds
    )
