"""FLUSHALL and FLUSHDB where they are not all the target's: of a shard, of a selection, or on a cluster as the target.

The keys that the source's flush removes there are removed one by one: on a standalone target those of the shard's slots,
on a cluster all but our checkpoints; of a task that takes some along those that it has brought.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from engine.codec.command_text import encode
from engine.replay.brought import Brought
from engine.replay.leftovers import scan_keys
from engine.replay.selected_keys import SelectedKeys
from engine.replay.shards import each_server
from engine.replay.target_session import TargetSession

log = structlog.get_logger("engine.replay")


Flush = Callable[[int, int], Awaitable[None]]


def flush_of(
    session: TargetSession, slots: frozenset[int] | None, keys: SelectedKeys, brought: Brought
) -> Flush | None:
    """What a flush of the source at an offset does (flush_at); None: it can be passed on. slots: of the line's shard."""
    if slots is None and not session.is_cluster and not keys.selection.is_about_data:
        return None
    return partial(flush_at, session, keys, brought)


async def flush_at(
    session: TargetSession, keys: SelectedKeys, brought: Brought, offset: int, flushed_db: int
) -> None:
    """Do what the source's flush at `offset` means for the target. flushed_db: of the source; -1: all.

    Raises as `flush_keys`.
    """

    def choose(db: int, names: Sequence[bytes]) -> list[bytes]:
        found = [
            name
            for name in names
            if (place := keys.source_of(db, name)) is not None
            and flushed_db in {-1, place[0]}
            and not session.has_applied(name, offset)
        ]
        return brought.own(db, found) if keys.selection.is_about_data else found

    await flush_keys(session, choose)


async def flush_keys(
    session: TargetSession, choose: Callable[[int, Sequence[bytes]], list[bytes]]
) -> None:
    """Remove what `choose` takes of a database's keys from the target, and wait until it is gone.

    Raises:
        TargetUnreachable, TargetAuthError, and what ended the target's link.
    """
    removed = 0

    async def remove(db: int, keys: list[bytes]) -> None:
        nonlocal removed
        removed += len(keys)
        commands = [encode("SELECT", db), encode("UNLINK", *keys), encode("SELECT", 0)]
        await session.delivery.send(session.guarded(commands), 0.0)

    async for client, _ in each_server(session):
        await scan_keys(client, choose, remove)
        await session.delivery.drain()
    log.warning(
        "stream.flushed",
        keys=removed,
        means="the source, one of its shards or of its databases was flushed",
    )
