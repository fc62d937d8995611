"""Takes a file's margin off the expiries on the target: which ones have it, and what they are without it, shows by itself.

A file cannot be asked for the true times, and needs not be (margin.py). Done again it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AskError, RedisError  # MovedError is one
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.codec.command_text import encode
from engine.control_client import raise_if_cancelled, reply_text
from engine.errors import TargetLinkLost, TargetRefused, TargetRejected
from engine.replay.margin import Margin
from engine.replay.margined_keys import OURS
from engine.replay.owed import Key
from engine.replay.settlement import Correction
from engine.replay.shards import each_server
from engine.replay.target_session import TargetSession
from engine.target.replies import not_ready

FIELDS_AT_ONCE = 1000
FEW_KEYS = 100_000
MOMENTS_SINCE = (7, 0)  # PEXPIRETIME


class OwnMargin:
    """Asks the target itself. offset: how far the stream is replayed, where a correction then belongs.

    refused: never; a target that does not answer is an error.
    """

    def __init__(self, session: TargetSession, margin: Margin, offset: Callable[[], int]) -> None:
        self._session = session
        self._margin = margin
        self._offset = offset
        self.refused = ""

    async def ask(
        self,
        keys: Sequence[Key],
        wholes: Sequence[Key],
        *,
        removes_missing: bool = True,  # noqa: ARG002 - what is missing has been deleted
    ) -> Correction | None:
        """The commands that give these keys, and the fields of hashes among `wholes`, their true expiries.

        Raises:
            TargetLinkLost, TargetNotReady, TargetRejected.
        """
        commands: list[bytes] = []
        async for client, _ in each_server(self._session):
            try:
                commands += await self._corrections(client, [*keys, *wholes], wholes)
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                raise_if_cancelled()
                raise TargetLinkLost(
                    f"the target stopped answering while expiries were put right: {error}"
                ) from error
        return Correction(self._offset(), [*commands, encode("SELECT", 0)])

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _corrections(
        self, client: Redis, keys: Sequence[Key], wholes: Sequence[Key]
    ) -> list[bytes]:
        commands = []
        for (db, name), moment in zip(keys, await self._moments(client, keys), strict=True):
            true_ms = self._margin.true_ms(moment)
            if true_ms is not None:
                commands += [encode("SELECT", db), encode("PEXPIREAT", name, true_ms)]
        if self._session.capabilities.has_field_ttls:
            for db, name in wholes:
                found = await self._fields(client, db, name)
                for true_ms, fields in found.items():
                    for at in range(0, len(fields), FIELDS_AT_ONCE):
                        some = fields[at : at + FIELDS_AT_ONCE]
                        commands += [
                            encode("SELECT", db),
                            encode("HPEXPIREAT", name, true_ms, "FIELDS", len(some), *some),
                        ]
        return commands

    async def _moments(self, client: Redis, keys: Sequence[Key]) -> list[int]:
        """When each key expires, ms since the epoch; a negative number where it does not, or is on another server."""
        if not keys:
            return []
        tells_moments = self._session.capabilities.level >= MOMENTS_SINCE
        asked: list[tuple[Any, ...]] = [] if tells_moments else [("TIME",)]
        for db, name in keys:
            asked += [self._before(db), ("PEXPIRETIME" if tells_moments else "PTTL", name)]
        answers = await self._ask(client, asked)
        if tells_moments:
            return [it if isinstance(it, int) else -1 for it in answers[1::2]]
        now_ms = int(answers[0][0]) * 1000 + int(answers[0][1]) // 1000
        return [now_ms + it if isinstance(it, int) and it >= 0 else -1 for it in answers[2::2]]

    async def _fields(self, client: Redis, db: int, name: bytes) -> dict[int, list[bytes]]:
        """The fields that have the margin, by their true expiry."""
        found: dict[int, list[bytes]] = {}
        cursor = 0
        while True:
            _, page = await self._ask(
                client, [self._before(db), ("HSCAN", name, cursor, "COUNT", FIELDS_AT_ONCE)]
            )
            if not isinstance(page, list | tuple):
                return found  # no hash, or not here
            cursor, fields = int(page[0]), list(page[1])  # a dict
            if fields:
                _, times = await self._ask(
                    client,
                    [self._before(db), ("HPEXPIRETIME", name, "FIELDS", len(fields), *fields)],
                )
                for field, moment in zip(
                    fields, times if isinstance(times, list) else (), strict=False
                ):
                    true_ms = self._margin.true_ms(moment)
                    if true_ms is not None:
                        found.setdefault(true_ms, []).append(field)
            if cursor == 0:
                return found

    def _before(self, db: int) -> tuple[Any, ...]:
        """What stands before a question; a cluster has one database, and keys on their way to the server that is asked."""
        return ("ASKING",) if self._session.is_cluster else ("SELECT", db)

    async def _ask(self, client: Redis, commands: list[tuple[Any, ...]]) -> list[Any]:
        pipe = client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers = await pipe.execute(raise_on_error=False)
        raise_if_cancelled()
        for asked, answer in zip(commands, answers, strict=True):
            if not isinstance(answer, RedisError):
                continue
            text = reply_text(answer)
            is_elsewhere = isinstance(answer, AskError)  # other servers have the other keys
            if text.startswith("WRONGTYPE") or is_elsewhere or asked[0] in {"SELECT", "ASKING"}:
                continue
            endpoint = self._session.endpoint
            raise not_ready(endpoint, text) or TargetRejected(
                f"the target refused {asked[0]}: {text}",
                command=str(asked[0]),
                key=b"",
                reply=text,
                offset=-1,
                hint="grant it: ACL SETUSER <user> +select +time +pttl +pexpiretime +hscan +hpexpiretime",
            )
        return list(answers)


async def refuse_filled(session: TargetSession) -> None:
    """See that a target holds nothing that the commands of a file could act on.

    Raises:
        TargetRefused: it holds keys, and no checkpoint says that an earlier run of the task put them there.
    """
    if session.had_checkpoint:
        return
    keys = 0
    async for client, _ in each_server(session):
        info = await client.info("keyspace")
        raise_if_cancelled()
        of_server = sum(int(it["keys"]) for it in info.values() if isinstance(it, dict))
        if of_server <= FEW_KEYS:  # other tasks' checkpoints do no harm
            of_server -= len([it async for it in client.scan_iter(match=OURS + b"*", count=1000)])
            raise_if_cancelled()
        keys += of_server
    if keys > 0:
        raise TargetRefused(
            f"the target holds {keys} keys already, and the commands of an append-only file (RPUSH, INCR …) would act on them",
            hint="use an empty target; run the same command again only to go on with a run that did not end",
        )
