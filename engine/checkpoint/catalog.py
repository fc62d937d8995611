"""Every checkpoint on a target, whoever's it is: finding, reading and removing them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.checkpoint.checkpoint import PREFIX, Checkpoint, checkpoint_key, decode
from engine.checkpoint.slot_checkpoints import slot_suffix
from engine.cluster.topology import SLOTS
from engine.codec.part_names import PART_PREFIX, part_name, part_suffix
from engine.codec.slot_router import KEY_PREFIX as SLOT_KEY_PREFIX
from engine.codec.slots import slot_tags
from engine.control_client import raise_if_cancelled
from engine.errors import TargetRefused

SCAN_COUNT = 5000
_KEY = re.compile(re.escape(PREFIX + b"checkpoint:{") + rb"([^}]*)\}:(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """One line's checkpoint. checkpoint None: it cannot be read, `error` says why.

    age_seconds: since it was last written or read; None where OBJECT IDLETIME is not permitted. fields: all of the
    hash, as text.
    """

    key: bytes
    task_id: str
    line: str
    checkpoint: Checkpoint | None
    error: str = ""
    phase: str = ""
    age_seconds: float | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKeys:
    """is_complete: False if the search ended at its deadline."""

    keys: list[bytes]
    is_complete: bool


async def find_checkpoint_keys(client: Redis, *, budget_seconds: float | None = None) -> FoundKeys:
    """Search database 0 by SCAN. A large database takes a while: budget_seconds ends the search.

    Raises:
        redis.exceptions.RedisError: SCAN is not permitted, or the connection is gone.
    """
    begun, cursor = time.monotonic(), 0
    found: set[bytes] = set()
    while True:
        cursor, keys = await client.scan(cursor, match=PREFIX + b"checkpoint:*", count=SCAN_COUNT)
        raise_if_cancelled()
        found |= {key for key in cast(list[bytes], keys) if _KEY.fullmatch(key)}
        if int(cursor) == 0:
            return FoundKeys(keys=sorted(found), is_complete=True)
        if budget_seconds is not None and time.monotonic() - begun > budget_seconds:
            return FoundKeys(keys=sorted(found), is_complete=False)


def names_in(key: bytes) -> tuple[str, str]:
    """Task and line in the key of a checkpoint."""
    found = _KEY.fullmatch(key)
    assert found is not None
    return found[1].decode("utf-8", "replace"), found[2].decode("utf-8", "replace")


async def count_own_keys(client: Redis, names: Iterable[tuple[str, str]]) -> int:
    """Keys on this server that are checkpoints of these tasks and lines.

    Those of a cluster's slots come and go together, and count where slot 0 is. Asked by HLEN, which the target's user may use.

    Raises:
        redis.exceptions.RedisError: the connection is gone.
    """
    tag = slot_tags()[:4]
    pipe = client.pipeline(transaction=False)
    for task_id, line in names:
        pipe.hlen(checkpoint_key(task_id, line))
        pipe.hlen(SLOT_KEY_PREFIX + tag + b"}" + slot_suffix(task_id, line))
    answers = await pipe.execute(raise_on_error=False)
    # An error: the key's slot is another shard's.
    found = [0 if isinstance(it, Exception) else int(bool(it)) for it in answers]
    return sum(found[::2]) + SLOTS * sum(found[1::2])


async def read_stored(client: Redis, key: bytes) -> StoredCheckpoint | None:
    """One of them; None if it is gone.

    Raises:
        redis.exceptions.RedisError: it may not be read, or the connection is gone.
    """
    task_id, line = names_in(key)
    age = await _age(client, key)  # before it is read, for reading makes it young
    try:
        raw = cast(dict[bytes, bytes], await client.hgetall(key))
    except RedisError as error:
        if "WRONGTYPE" not in str(error):
            raise
        return StoredCheckpoint(
            key=key,
            task_id=task_id,
            line=line,
            checkpoint=None,
            error="not a hash",
            age_seconds=age,
        )
    if not raw:
        return None
    fields = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in raw.items()
    }
    checkpoint, error_text = None, ""
    try:
        checkpoint = decode(raw, key)
    except TargetRefused as error:
        error_text = error.message
    return StoredCheckpoint(
        key=key,
        task_id=task_id,
        line=line,
        checkpoint=checkpoint,
        error=error_text,
        phase=fields.get("phase", ""),
        age_seconds=age,
        fields=fields,
    )


async def read_of_task(
    client: Redis, task_id: str, *, searches: bool = False
) -> list[StoredCheckpoint]:
    """The checkpoints of one task.

    That of its only line is found by name. searches: SCAN for those of a source cluster's lines if it is not there.
    """
    found = await read_stored(client, checkpoint_key(task_id, "0"))
    if found is not None or not searches:
        return [] if found is None else [found]
    keys = [it for it in (await find_checkpoint_keys(client)).keys if names_in(it)[0] == task_id]
    stored = [await read_stored(client, key) for key in keys]
    return [it for it in stored if it is not None]


async def list_stored(client: Redis) -> list[StoredCheckpoint]:
    """All of them, by task and line."""
    found = await find_checkpoint_keys(client)
    stored = [await read_stored(client, key) for key in found.keys]
    return [it for it in stored if it is not None]


async def remove_of_task(client: Redis, task_id: str) -> list[bytes]:
    """Delete a task's checkpoints on one server, and what it has built of a value; returns the keys that were there."""
    stored = await read_of_task(client, task_id, searches=True)
    removed = [it.key for it in stored if await client.delete(it.key)]
    names = [part_name(part_suffix(task_id, it.line)) for it in stored]
    dbs = [name[2:] for name in await client.info("keyspace") if name[2:].isdigit()]
    if names and dbs:
        pipe = client.pipeline(transaction=False)
        for db in (*dbs, "0"):
            pipe.execute_command("SELECT", db)
            pipe.delete(*names)
        counts = (await pipe.execute())[1::2]
        if any(counts):
            removed += names
    return removed


async def remove_of_task_on_shard(client: Redis, task_id: str) -> list[bytes]:
    """Delete a task's checkpoints on one primary of a cluster, those of its slots too, and what it has built of a value.

    Returns those of its lines.
    """
    lines = [it.key for it in await list_stored(client) if it.task_id == task_id]
    slots = [
        key
        for prefix in (SLOT_KEY_PREFIX, PART_PREFIX + b"{")
        async for key in client.scan_iter(
            match=prefix + b"????}:" + task_id.encode() + b":*", count=SCAN_COUNT
        )
    ]
    pipe = client.pipeline(transaction=False)
    for key in (*lines, *slots):
        pipe.delete(key)
    await pipe.execute()
    return lines


async def open_connections(client: Redis, task_id: str) -> list[str] | None:
    """Names of the task's connections to the target that are open now; None where that may not be asked."""
    prefix = f"{PREFIX.decode()}{task_id}:"
    try:
        names = [str(it.get("name", "")) for it in await client.client_list()]
    except RedisError:
        raise_if_cancelled()
        return None
    return sorted(name for name in names if name.startswith(prefix))


async def _age(client: Redis, key: bytes) -> float | None:
    try:
        seconds = await client.object("IDLETIME", key)
    except RedisError:  # not permitted, or the target counts uses instead of time (LFU)
        raise_if_cancelled()
        return None
    return None if seconds is None else float(seconds)
