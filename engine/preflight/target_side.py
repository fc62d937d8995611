"""Asks the target, in the same way as the source. What it can load is found by trying, as a line does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError

from engine.checkpoint.catalog import (
    StoredCheckpoint,
    find_checkpoint_keys,
    names_in,
    open_connections,
    read_of_task,
    read_stored,
)
from engine.connect import connect_hint
from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetAuthError, TargetRefused, TargetUnreachable
from engine.preflight.asking import (
    Conversation,
    Refusal,
    clock_offset_ms,
    config_of,
    info_of,
    keyspace_of,
    modules_of,
    number,
    version_of,
)
from engine.preflight.facts import FoundCheckpoint, TargetState
from engine.preflight.permissions import (
    TARGET_PROBES,
    Answer,
    Probe,
    Way,
    denials,
    read_answer,
    read_dryrun,
)
from engine.settings import TaskSettings
from engine.target.capabilities import probe_target

_DIRECTIVES = (
    "databases", "maxmemory", "maxmemory-policy", "min-replicas-to-write", "min-slaves-to-write",
    "stop-writes-on-bgsave-error", "save", "appendonly", "appendfsync", "timeout",
    "busy-reply-threshold", "lua-time-limit",
)  # fmt: skip
SCAN_BUDGET_SECONDS = 3.0


async def ask_target(
    settings: TaskSettings, *, target_databases: Iterable[int], looks_for_tasks: bool
) -> TargetState:
    """Everything about the target. Never raises.

    target_databases: numbers that those in use at the source have here. looks_for_tasks: search its keys for other checkpoints, too.
    """
    endpoint = settings.target
    seconds = settings.target_link.connect_timeout_seconds
    try:
        async with Conversation(endpoint, timeout_seconds=seconds) as talk:
            found = await ask_facts(talk, tuple(target_databases))
        client = control_client(endpoint, timeout_seconds=seconds)
        try:
            found |= await _ask_checkpoints(client, settings.task_id, looks_for_tasks)
        finally:
            await client.aclose()
    except (RedisError, OSError) as error:
        raise_if_cancelled()
        return TargetState(endpoint=endpoint, error=unreachable(endpoint, error), has_info=False)
    if not any(it.is_required for it in found["denials"]):
        found |= await _ask_capabilities(settings)
    return TargetState(endpoint=endpoint, **found)


def unreachable(endpoint: Endpoint, error: Exception) -> EngineError:
    """Why the target cannot be asked."""
    if isinstance(error, AuthenticationError):
        return TargetAuthError(
            f"the target {endpoint.address} refuses the login: {error}",
            hint="check user and password: --target-password-file, or user:password@ in the URL",
        )
    if isinstance(error, BusyLoadingError):
        return TargetUnreachable(
            f"the target {endpoint.address} is loading its data",
            hint="wait until redis-cli INFO persistence says loading:0",
        )
    return TargetUnreachable(
        f"cannot connect to the target {endpoint.address}: {error}",
        hint=connect_hint(endpoint, "target", str(error)),
    )


async def ask_facts(talk: Conversation, target_databases: tuple[int, ...]) -> dict[str, Any]:
    """What one server says of itself, as fields of TargetState."""
    info_reply, modules, whoami, *configs = await talk.ask(
        ("INFO",),
        ("MODULE", "LIST"),
        ("ACL", "WHOAMI"),
        *(("CONFIG", "GET", name) for name in _DIRECTIVES),
    )
    info, config = info_of(info_reply), config_of(configs)
    product, version = version_of(info)
    user = whoami.decode() if isinstance(whoami, bytes) else None
    clock = await clock_offset_ms(talk)
    missing_db = await _missing_db(talk, target_databases)
    # Last, for it leaves the connection in a transaction.
    denied = denials(await _ask_permissions(talk, user))
    has_aof = info.get("aof_enabled") == "1"
    replicas_needed = number(config, "min-replicas-to-write")
    if replicas_needed is None:
        replicas_needed = number(config, "min-slaves-to-write")
    script_limit = number(config, "busy-reply-threshold")
    return {
        "product": product,
        "version": version,
        "user": user,
        "denials": denied,
        "has_info": bool(info),
        "is_cluster": info.get("cluster_enabled") == "1",
        "primary": f"{info.get('master_host')}:{info.get('master_port')}"
        if info.get("role") == "slave"
        else None,
        "is_loading": info.get("loading") == "1",
        "keys": keyspace_of(info),
        "modules": modules_of(modules),
        "used_memory_bytes": number(info, "used_memory"),
        "is_last_save_good": _is_good(info.get("rdb_last_bgsave_status")),
        "clock_offset_ms": clock,
        "databases": number(config, "databases"),
        "missing_db": missing_db,
        "maxmemory_bytes": number(info, "maxmemory"),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "replicas_needed": replicas_needed,
        "replicas_good": number(info, "min_slaves_good_slaves"),
        # Without save points a failed save stops nothing.
        "stops_writes_on_save_error": config["stop-writes-on-bgsave-error"] == "yes"
        and bool(config.get("save"))
        if "stop-writes-on-bgsave-error" in config
        else None,
        "appendfsync": config.get("appendfsync", "unknown") if has_aof else None,
        "is_last_aof_write_good": _is_good(info.get("aof_last_write_status")) if has_aof else None,
        "client_timeout_seconds": number(config, "timeout"),
        "script_limit_ms": script_limit
        if script_limit is not None
        else number(config, "lua-time-limit"),
    }


def _is_good(status: str | None) -> bool | None:
    return None if status is None else status == "ok"


async def _missing_db(talk: Conversation, wanted: tuple[int, ...]) -> int | None:
    """The lowest database of the source that the target does not have. Asked by SELECT: CONFIG may be closed."""
    numbers = sorted(wanted)
    replies = await talk.ask(*(("SELECT", str(db)) for db in numbers), ("SELECT", "0"))
    for db, reply in zip(numbers, replies, strict=False):
        # "ERR DB index is out of range"; in cluster mode "SELECT is not allowed", which is said elsewhere.
        if isinstance(reply, Refusal) and "out of range" in reply:
            return db
    return None


async def _ask_permissions(talk: Conversation, user: str | None) -> dict[Probe, tuple[Answer, str]]:
    """ACL DRYRUN for everything where it may be used; else behind MULTI, which EXEC never ends."""
    answers: dict[Probe, tuple[Answer, str]] = {}
    if user is not None:
        tried = await talk.ask(*(("ACL", "DRYRUN", user, *it.command) for it in TARGET_PROBES))
        answers = {it: read_dryrun(reply) for it, reply in zip(TARGET_PROBES, tried, strict=True)}
        if all(answer is not Answer.UNKNOWN for answer, _ in answers.values()):
            return answers
    multi = await talk.ask_one("MULTI")
    (probe_multi,) = (it for it in TARGET_PROBES if it.name == "MULTI")
    answers[probe_multi] = (read_answer(multi), str(multi) if isinstance(multi, Refusal) else "")
    if multi != b"OK":
        return answers  # outside of a transaction the probes would be carried out
    queued = [it for it in TARGET_PROBES if it.way is Way.QUEUE]
    replies = await talk.ask(*(it.command for it in queued))
    for probe, reply in zip(queued, replies, strict=True):
        answers[probe] = (read_answer(reply), str(reply) if isinstance(reply, Refusal) else "")
    return answers


async def _ask_capabilities(settings: TaskSettings) -> dict[str, Any]:
    try:
        found = await probe_target(settings.target, settings.target_link)
    except EngineError as error:
        # A replica, a cluster node and a full memory are also seen in INFO, and said better there.
        return {"refusal": error}
    return {
        "rdb_version": found.rdb_version,
        "redis_types": found.redis_types,
        "valkey_types": found.valkey_types,
    }


async def _ask_checkpoints(client: Redis, task_id: str, looks_for_tasks: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"workers": tuple(await open_connections(client, task_id) or ())}
    try:
        stored = next(iter(await read_of_task(client, task_id)), None)
    except RedisError:
        raise_if_cancelled()
        return found  # not permitted: among the permissions
    if stored is not None:
        found |= _checkpoint(stored) | {"own_keys": 1}
    if looks_for_tasks:
        try:
            others = await find_checkpoint_keys(client, budget_seconds=SCAN_BUDGET_SECONDS)
        except RedisError:
            raise_if_cancelled()
            return found
        found["own_keys"] = len(others.keys)
        names = {names_in(key)[0] for key in others.keys}
        if stored is None:
            found |= await _checkpoint_of_lines(client, task_id, others.keys)
        found["other_tasks"] = tuple(sorted(names - {task_id}))
    return found


async def _checkpoint_of_lines(
    client: Redis, task_id: str, keys: Sequence[bytes]
) -> dict[str, Any]:
    """Of a source cluster's lines that which has least."""
    own = [await read_stored(client, key) for key in keys if names_in(key)[0] == task_id]
    made = [_checkpoint(it) for it in own if it is not None]
    broken = next((it for it in made if "checkpoint_error" in it), None)
    return broken or min(made, key=lambda it: int(it["checkpoint"].offset), default={})


def _checkpoint(stored: StoredCheckpoint) -> dict[str, Any]:
    if stored.checkpoint is None:
        return {
            "checkpoint_error": TargetRefused(
                f"the checkpoint of this task on the target cannot be read: {stored.error}",
                hint="use the redis-ferry that wrote it, or another --task-id",
            )
        }
    position = None if stored.checkpoint.has_hole else stored.checkpoint.position
    return {
        "checkpoint": FoundCheckpoint(
            task_id=stored.task_id,
            offset=-1 if position is None else position.offset,
            replid="" if position is None else position.replid,
            epoch=stored.checkpoint.epoch,
            age_seconds=stored.age_seconds,
            selection=stored.checkpoint.selection,
        )
    }
