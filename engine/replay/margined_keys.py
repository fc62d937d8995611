"""Finds the keys of a target whose expiries have a margin, when no list of them is left.

After a snapshot (where there may be millions of them) and after a crash the target itself is the list: an expiry
with a margin lies farther away than any that came without one, but for a few that are asked for in vain.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.control_client import LOST, control_client, raise_if_cancelled, reply_text
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetLinkLost, TargetRejected
from engine.replay.owed import Key
from engine.settings import TargetSettings
from engine.target.replies import not_ready

SCAN_COUNT = 1000
HASH_SCAN_COUNT = 100
FEW_FIELDS = 5000
OURS = b"redis-ferry:"
ELSEWHERE = (
    "WRONGTYPE",
    "MOVED",
    "ASK",
)  # another key of the name, or the key is at another server


class MarginedKeys:
    """The keys of one target with an expiry at or behind `least_ms` (ms since the epoch).

    has_field_ttls: hashes are looked into as well. is_due: whether to look at a key. seen: keys looked at.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: TargetSettings,
        *,
        least_ms: int,
        has_field_ttls: bool,
        is_due: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        self._endpoint = endpoint
        self._client: Redis = control_client(
            endpoint, timeout_seconds=settings.reply_timeout_seconds
        )
        self._least_ms = least_ms
        self._has_field_ttls = has_field_ttls
        self._is_due = is_due
        self.seen = 0

    async def batches(self) -> AsyncIterator[tuple[list[Key], list[Key]]]:
        """Batches of (keys, hashes); a key may come twice, one that is moved to another server meanwhile not at all.

        Raises:
            TargetLinkLost: the target does not answer. TargetNotReady: not now. TargetRejected: it is not permitted.
        """
        try:
            for db in await self._databases():
                async for names in self._pages(db, SCAN_COUNT):
                    keys = await self._with_margin(db, names)
                    yield [(db, name) for name in keys], []
                if self._has_field_ttls:
                    async for names in self._pages(db, HASH_SCAN_COUNT, "TYPE", "hash"):
                        hashes = await self._with_late_fields(db, names)
                        yield [], [(db, name) for name in hashes]
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise_if_cancelled()
            raise TargetLinkLost(
                f"the target {self._endpoint.address} stopped answering while expiries were looked for: {error}"
            ) from error
        except RedisError as error:
            raise_if_cancelled()
            raise self._refused("INFO", error) from error

    async def _databases(self) -> list[int]:
        info = await self._client.info("keyspace")
        raise_if_cancelled()
        return sorted(int(name[2:]) for name in info if name[2:].isdigit())

    async def _ask(self, db: int, commands: list[tuple[Any, ...]]) -> list[Any]:
        """The answers; WRONGTYPE among them (a key that is no hash any more) as it is, and MOVED and ASK."""
        if not commands:
            return []
        # SELECT each time: a connection that was made anew is in database 0.
        _, *answers = await self._answers([("SELECT", db), *commands])
        moved = [n for n, it in enumerate(answers) if isinstance(it, MovedError)]
        # Of a slot that is on its way to this server.
        there = await self._answers([it for n in moved for it in (("ASKING",), commands[n])])
        for n, answer in zip(moved, there[1::2], strict=True):
            answers[n] = answer
        for asked, answer in zip(commands, answers, strict=True):
            if isinstance(answer, RedisError) and not reply_text(answer).startswith(ELSEWHERE):
                raise self._refused(str(asked[0]), answer)
        return answers

    async def _answers(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers = await pipe.execute(raise_on_error=False)
        raise_if_cancelled()
        return list(answers)

    async def _pages(self, db: int, count: int, *options: str) -> AsyncIterator[list[bytes]]:
        cursor = 0
        while True:
            (answer,) = await self._ask(db, [("SCAN", cursor, "COUNT", count, *options)])
            cursor = int(answer[0])
            names = [it for it in answer[1] if not it.startswith(OURS) and self._is_due(it)]
            self.seen += len(names)
            if names:
                yield names
            if cursor == 0:
                return

    async def _with_margin(self, db: int, names: list[bytes]) -> list[bytes]:
        moment, *left = await self._ask(db, [("TIME",), *(("PTTL", name) for name in names)])
        least_left = self._least_ms - int(moment[0]) * 1000
        return [
            name
            for name, ms in zip(names, left, strict=True)
            if isinstance(ms, int) and ms >= least_left
        ]

    async def _with_late_fields(self, db: int, names: list[bytes]) -> list[bytes]:
        sizes = await self._ask(db, [("HLEN", name) for name in names])
        sized = [(it, n) for it, n in zip(names, sizes, strict=True) if isinstance(n, int) and n]
        few = [name for name, size in sized if size <= FEW_FIELDS]
        fields = await self._ask(db, [("HKEYS", name) for name in few])
        asked = [
            ("HPEXPIRETIME", name, "FIELDS", len(them), *them)
            for name, them in zip(few, fields, strict=True)
            if isinstance(them, list) and them
        ]
        times = await self._ask(db, asked)
        found = [bytes(it[1]) for it, them in zip(asked, times, strict=True) if self._any(them)]
        many = [name for name, size in sized if size > FEW_FIELDS]
        return found + [name for name in many if await self._has_late_field(db, name)]

    async def _has_late_field(self, db: int, name: bytes) -> bool:
        cursor = 0
        while True:
            (page,) = await self._ask(db, [("HSCAN", name, cursor, "COUNT", SCAN_COUNT)])
            if not isinstance(page, list | tuple):
                return False
            cursor, fields = int(page[0]), list(page[1])
            times = await self._ask(db, [("HPEXPIRETIME", name, "FIELDS", len(fields), *fields)])
            if fields and self._any(times[0]):
                return True
            if cursor == 0:
                return False

    def _refused(self, command: str, error: RedisError) -> EngineError:
        text = reply_text(error)
        return not_ready(self._endpoint, text) or TargetRejected(
            f"the target {self._endpoint.address} refused {command}: {text}",
            command=command,
            key=b"",
            reply=text,
            offset=-1,
            hint="grant it: ACL SETUSER <user> +info +time +scan +pttl +hlen +hkeys +hscan +hpexpiretime",
        )

    def _any(self, times: Any) -> bool:
        return isinstance(times, list) and any(it >= self._least_ms for it in times)

    async def close(self) -> None:
        """Close the control connection."""
        with contextlib.suppress(*LOST):
            await self._client.aclose()
