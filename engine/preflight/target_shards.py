"""Asks the target, or all primaries of it where it is a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any

from redis.exceptions import RedisError

from engine.checkpoint.catalog import (
    count_own_keys,
    find_checkpoint_keys,
    names_in,
    open_connections,
)
from engine.checkpoint.checkpoint import checkpoint_key
from engine.checkpoint.cluster_claim import read_whole
from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.topology import ClusterMap
from engine.control_client import LOST, control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetRefused
from engine.preflight.asking import Conversation
from engine.preflight.facts import FoundCheckpoint, TargetState
from engine.preflight.target_side import SCAN_BUDGET_SECONDS, ask_facts, ask_target, unreachable
from engine.settings import TaskSettings

_SUMS = ("used_memory_bytes", "maxmemory_bytes")


async def ask_target_or_shards(
    settings: TaskSettings, *, target_databases: Iterable[int], looks_for_tasks: bool
) -> TargetState:
    """As `ask_target`; every primary of a cluster at the same time. Never raises."""
    endpoint, seconds = settings.target, settings.target_link.connect_timeout_seconds
    databases = sorted(target_databases)
    if endpoint.unix_path is not None or not await _is_cluster(endpoint, seconds):
        return await ask_target(
            settings, target_databases=databases, looks_for_tasks=looks_for_tasks
        )
    try:
        found = await ask_cluster_map(endpoint, role="target", timeout_seconds=seconds)
    except EngineError as error:
        return TargetState(endpoint=endpoint, error=error, has_info=False)
    if found is None or not found.shards:
        return TargetState(endpoint=endpoint, is_cluster=True, slots_unserved=16384)
    try:
        facts = await asyncio.gather(
            *(_ask_one(endpoint_of(it.primary, endpoint), seconds) for it in found.shards)
        )
    except (RedisError, OSError) as error:
        raise_if_cancelled()
        return TargetState(endpoint=endpoint, error=unreachable(endpoint, error), has_info=False)
    made: dict[str, Any] = dict(facts[0])
    for name in _SUMS:
        numbers = [it[name] for it in facts]
        made[name] = None if None in numbers or 0 in numbers else sum(numbers)
    if 0 in [it["maxmemory_bytes"] for it in facts]:
        made["maxmemory_bytes"] = 0
    made["keys"] = {0: sum(it["keys"].get(0, 0) for it in facts)}
    made["denials"] = next((it["denials"] for it in facts if it["denials"]), ())
    checkpoints = await _ask_checkpoints(settings, found, looks_for_tasks=looks_for_tasks)
    # A cluster has one database.
    made["missing_db"] = next((db for db in databases if db), None)
    made["databases"] = 1
    return TargetState(
        endpoint=endpoint,
        shards=len(found.shards),
        slots_unserved=found.unserved,
        **made,
        **checkpoints,
    )


async def _ask_checkpoints(
    settings: TaskSettings, found: ClusterMap, *, looks_for_tasks: bool
) -> dict[str, Any]:
    """Of this task, all slots together, and the names of others."""
    seconds, task_id = settings.target_link.connect_timeout_seconds, settings.task_id
    workers: set[str] = set()
    keys = {checkpoint_key(task_id, "0")}
    own_keys = 0
    async with AsyncExitStack() as stack:
        clients = [
            control_client(endpoint_of(it.primary, settings.target), timeout_seconds=seconds)
            for it in found.shards
        ]
        for client in clients:
            stack.push_async_callback(client.aclose)
            with suppress(*LOST):  # not permitted: among the permissions
                workers |= set(await open_connections(client, task_id) or ())
                if looks_for_tasks:
                    some = await find_checkpoint_keys(client, budget_seconds=SCAN_BUDGET_SECONDS)
                    keys |= set(some.keys)
            raise_if_cancelled()
        names = [names_in(key) for key in sorted(keys)]
        # A line's checkpoint and slot 0 may be on different shards.
        with suppress(*LOST):
            own_keys = sum([await count_own_keys(it, names) for it in clients])
        raise_if_cancelled()
    made: dict[str, Any] = {
        "own_keys": own_keys,
        "workers": tuple(sorted(workers)),
        "other_tasks": tuple(sorted({task for task, _ in names} - {task_id})),
    }
    lines: list[FoundCheckpoint] = []
    for line in [line for task, line in names if task == task_id]:
        try:
            whole = await read_whole(settings.target, settings.target_link, task_id, line)
        except TargetRefused as error:
            made["checkpoint_error"] = error
            continue
        except EngineError:
            raise_if_cancelled()
            continue
        if whole is not None:
            lines.append(
                FoundCheckpoint(
                    task_id=task_id,
                    offset=-1 if whole.position is None else whole.position.offset,
                    replid="" if whole.position is None else whole.position.replid,
                    epoch=whole.epoch,
                    selection=whole.selection,
                )
            )
    # The line that has least tells what is to be expected.
    made["checkpoint"] = min(lines, key=lambda it: it.offset, default=None)
    return made


async def _is_cluster(endpoint: Endpoint, seconds: float) -> bool:
    """What does not answer is left to those who ask more."""
    client = control_client(endpoint, timeout_seconds=seconds)
    try:
        info = await client.info("cluster")
        raise_if_cancelled()
    except LOST:
        raise_if_cancelled()
        return False
    else:
        return bool(info.get("cluster_enabled"))
    finally:
        await client.aclose()


async def _ask_one(endpoint: Endpoint, seconds: float) -> dict[str, Any]:
    async with Conversation(endpoint, timeout_seconds=seconds) as talk:
        return await ask_facts(talk, ())
