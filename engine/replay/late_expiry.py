"""Finds the true expiry of keys whose relative TTL reached us late.

Sources before 7.0 send `EXPIRE key 100`, not a moment. If those bytes waited at the source (behind a snapshot,
for a lost connection), nothing in the stream tells how long. So once the link has caught up, the source is
asked for the keys' remaining times together with the offset at which that answer holds, and the stream phase
sends the correction at exactly that offset.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.settings import SourceSettings

log = structlog.get_logger("engine.replay")

# Few, so that the answers of one request lie within a millisecond.
KEYS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Correction:
    """A block that makes the expiries true for the stream's state at `offset`."""

    offset: int
    block: Block


class LateExpiry:
    """corrected: keys that were given their time. failed: keys the source would not tell the time of."""

    def __init__(self, source: Endpoint, settings: SourceSettings) -> None:
        self._client = control_client(source, timeout_seconds=settings.connect_timeout_seconds)
        self.corrected = 0
        self.failed = 0

    async def ask(self, keys: Sequence[tuple[int, bytes]]) -> Correction | None:
        """Ask for at most KEYS_AT_ONCE keys (db, name); None if the source does not answer."""
        pipe = self._client.pipeline(transaction=True)
        pipe.execute_command("INFO", "replication")
        pipe.execute_command("TIME")
        for db, name in keys:
            pipe.execute_command("SELECT", db)
            pipe.execute_command("PTTL", name)
        try:
            info, moment, *answers = await pipe.execute()
        except (RedisError, OSError) as error:
            raise_if_cancelled()
            self.failed += len(keys)
            log.warning(
                "expiry.not_corrected",
                keys=len(keys),
                why=str(error),
                means="their TTLs count from when the write was received, not from when it was made",
                remedy="permit MULTI, INFO, TIME, SELECT and PTTL to the source's user",
            )
            return None
        raise_if_cancelled()
        now_ms = moment[0] * 1000 + moment[1] // 1000
        commands = []
        for (db, name), left in zip(keys, answers[1::2], strict=True):
            if left >= 0:
                commands += [encode("SELECT", db), encode("PEXPIREAT", name, now_ms + left)]
            elif left == -2:  # no key: the source's DEL of an expired one may still be to come
                commands += [encode("SELECT", db), encode("DEL", name)]
        self.corrected += len(commands) // 2
        data = b"".join([*commands, encode("SELECT", 0)])
        block = Block(data=data, replies=len(commands) + 1)
        return Correction(int(info["master_repl_offset"]), block)

    async def close(self) -> None:
        """Close the control connection."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()
