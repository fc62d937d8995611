"""Removes from the target what the task brought earlier and the source does not have any more.

Between a snapshot and the stream behind it, so that nothing of the task's own is on its way. Keys that others
wrote are never touched: what the ledger does not name stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from engine.control_client import raise_if_cancelled
from engine.errors import LedgerError, TargetAuthError, TargetUnreachable
from engine.ledger.ledger import Ledger

log = structlog.get_logger("engine.replay")

SCAN_COUNT = 2000
DELETE_BATCH = 1000
OWN_PREFIX = b"redis-ferry:"  # checkpoints and the like
REPORTED_NAMES = 10_000
REPORT_NAME = "leftover-candidates.txt"

Answer = TypeVar("Answer")
Delete = Callable[[int, list[bytes]], Awaitable[None]]
Choose = Callable[[int, Sequence[bytes]], list[bytes]]


@dataclass(slots=True)
class ScanCounts:
    """keys_seen: names that SCAN gave, some maybe twice. by_db: the names chosen, without repetition in a batch."""

    keys_seen: int = 0
    by_db: dict[int, int] = field(default_factory=dict)

    @property
    def keys_chosen(self) -> int:
        """Over all databases."""
        return sum(self.by_db.values())


async def sort_names(ledger: Ledger) -> None:
    """Make the names that a snapshot has listed ready to be asked for, and let others run meanwhile.

    Raises:
        LedgerError: there is no room for it.
    """
    while ledger.sort_some():  # noqa: ASYNC110 - it works, it does not wait
        await asyncio.sleep(0)


async def remove_leftovers(client: Redis, ledger: Ledger, delete: Delete) -> ScanCounts:
    """Delete what the task brought earlier and the snapshot just applied does not have; return how many.

    client: a control connection to the target; what is sent on it afterwards meets database 0. delete: takes a database and at most
    DELETE_BATCH keys, and returns when they are gone or sure to go before anything newer.
    The ledger is between begin_snapshot and end_snapshot; nothing is deleted if it is not trusted.

    Raises:
        TargetUnreachable: SCAN was not answered. TargetAuthError: it is not permitted.
    """
    if not ledger.is_trusted:
        return ScanCounts()
    return await _delete_chosen(client, ledger.leftovers, delete)


async def remove_brought(client: Redis, ledger: Ledger, delete: Delete) -> ScanCounts:
    """Delete all that the task brought, before a repeated snapshot that must not replace keys (skip, fail).

    What the target had before the task stays. Otherwise as `remove_leftovers`.
    """
    if not ledger.is_trusted:
        return ScanCounts()
    return await _delete_chosen(client, ledger.brought, delete)


async def keep_existing(client: Redis, ledger: Ledger) -> ScanCounts:
    """Record what the target holds before the first snapshot of a task that must not replace keys.

    Only while the task has brought nothing: its own keys would be kept as well.

    Raises:
        LedgerError: the ledger names keys already. And as `remove_leftovers`.
    """
    if ledger.dbs:
        raise LedgerError(
            "keys of the target cannot be told from the task's own any more",
            hint="a bug of redis-ferry: existing keys are recorded before the first snapshot only",
        )

    async def keep(db: int, keys: list[bytes]) -> None:
        ledger.keep(db, keys)

    return await scan_keys(client, lambda _db, keys: list(keys), keep)


async def count_unknown(
    client: Redis,
    ledger: Ledger,
    has_key: Callable[[int, bytes], bool],
    names: list[tuple[int, bytes]],
) -> int:
    """Count what the target has and the snapshot does not, for a ledger that cannot tell whose it is.

    Nothing is deleted. has_key: whether a key may be the line's. names: the first REPORTED_NAMES are added to it.
    Raises as `remove_leftovers`.
    """

    async def take(db: int, keys: list[bytes]) -> None:
        names.extend((db, key) for key in keys[: REPORTED_NAMES - len(names)])

    def choose(db: int, keys: Sequence[bytes]) -> list[bytes]:
        return [key for key in ledger.unknown(db, keys) if has_key(db, key)]

    return (await scan_keys(client, choose, take)).keys_chosen


def write_report(path: Path, names: Sequence[tuple[int, bytes]]) -> None:
    """Write names, (database, key) each, for a person to look through; no file if there are none.

    A line each: database, a space, the name as Python writes bytes.
    """
    try:
        if names:
            path.write_text("".join(f"{db} {key!r}\n" for db, key in names))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the list of keys that may be left over cannot be written to {path}: {error.strerror}",
            hint="give the process access there",
        ) from error


async def _delete_chosen(client: Redis, choose: Choose, delete: Delete) -> ScanCounts:
    async def delete_in_batches(db: int, keys: list[bytes]) -> None:
        for at in range(0, len(keys), DELETE_BATCH):
            await delete(db, keys[at : at + DELETE_BATCH])

    counts = await scan_keys(client, choose, delete_in_batches)
    log.info(
        "leftovers.removed", keys=counts.keys_chosen, seen=counts.keys_seen, by_db=counts.by_db
    )
    return counts


async def scan_keys(
    client: Redis, choose: Choose, act: Callable[[int, list[bytes]], Awaitable[None]]
) -> ScanCounts:
    """SCAN every database of the target, and act on what is chosen of each answer."""
    counts = ScanCounts()
    for db in await _asked(_dbs_with_keys(client)):
        cursor = 0
        while True:
            cursor, found = await _asked(_scan(client, db, cursor))
            keys = [key for key in dict.fromkeys(found) if not key.startswith(OWN_PREFIX)]
            counts.keys_seen += len(keys)
            chosen = choose(db, keys)
            if chosen:
                await act(db, chosen)
                counts.by_db[db] = counts.by_db.get(db, 0) + len(chosen)
            if cursor == 0:
                break
    await _asked(_select(client, 0))
    return counts


async def _dbs_with_keys(client: Redis) -> list[int]:
    keyspace = await client.info("keyspace")
    return sorted(int(name[2:]) for name in keyspace if name[2:].isdigit())


async def _select(client: Redis, db: int) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.execute_command("SELECT", db)
    await pipe.execute()


async def _scan(client: Redis, db: int, cursor: int) -> tuple[int, list[bytes]]:
    # Selected each time: a connection that redis-py made anew starts in database 0.
    pipe = client.pipeline(transaction=True)
    pipe.execute_command("SELECT", db)
    pipe.execute_command("SCAN", cursor, "COUNT", SCAN_COUNT)
    _, (following, keys) = await pipe.execute()
    return int(following), cast(list[bytes], keys)


async def _asked(answer: Awaitable[Answer]) -> Answer:
    try:
        found = await answer
    except NoPermissionError as error:
        raise TargetAuthError(
            f"the target does not permit its keys to be listed: {error}",
            hint="grant it: ACL SETUSER <user> +info +scan +select +multi +exec",
        ) from None
    except (RedisError, OSError) as error:
        raise_if_cancelled()
        raise TargetUnreachable(f"the target's keys cannot be listed: {error}") from error
    raise_if_cancelled()
    return found
