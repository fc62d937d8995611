"""FLUSHALL and FLUSHDB where they are not the whole server's: of one source shard, or on a cluster as the target.

The keys that the source's flush removes there are removed one by one: on a standalone target those of the shard's slots,
on a cluster all but our checkpoints.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from engine.codec.command_text import encode
from engine.control_client import control_client
from engine.replay.leftovers import scan_keys
from engine.replay.target_session import TargetSession

log = structlog.get_logger("engine.replay")


def flush_of(
    session: TargetSession, slots: frozenset[int] | None, has_key: Callable[[bytes], bool]
) -> Callable[[int], Awaitable[None]] | None:
    """What a flush of the source at an offset does; None: it can be passed on. slots, has_key: of the line's source shard."""
    if slots is None and not session.is_cluster:
        return None
    return lambda offset: flush_keys(
        session, lambda key: has_key(key) and not session.has_applied(key, offset)
    )


async def flush_keys(session: TargetSession, has_key: Callable[[bytes], bool]) -> None:
    """Remove what `has_key` is true of from database 0 of the target, and wait until it is gone.

    Raises:
        TargetUnreachable, TargetAuthError, and what ended the target's link.
    """
    removed = 0

    async def remove(db: int, keys: list[bytes]) -> None:
        nonlocal removed
        removed += len(keys)
        commands = [encode("SELECT", db), encode("UNLINK", *keys), encode("SELECT", 0)]
        await session.delivery.send(session.guarded(commands), 0.0)

    for endpoint in await session.endpoints():
        client = control_client(endpoint, timeout_seconds=session.reply_timeout_seconds)
        try:
            await scan_keys(
                client,
                lambda db, keys: [it for it in keys if db == 0 and has_key(it)],
                remove,
            )
        finally:
            await client.aclose()
    await session.delivery.drain()
    log.warning(
        "stream.flushed", keys=removed, means="the source was flushed, or one of its shards"
    )
