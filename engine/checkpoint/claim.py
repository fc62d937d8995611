"""Taking a line over on the target: a new epoch, older connections closed, then the checkpoint.

Writing the checkpoint is part of the data (see checkpoint.py); here it is read, and its epoch raised.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, NoPermissionError, RedisError, WatchError

from engine.checkpoint.checkpoint import CLAIM_SERIAL, Checkpoint, decode, snapshot_fields, token
from engine.control_client import control_client, raise_if_cancelled, reply_text
from engine.endpoint import Endpoint
from engine.errors import TargetAuthError, TargetNotReady, TargetRefused, TargetUnreachable
from engine.settings import TargetSettings
from engine.target.replies import not_ready

log = structlog.get_logger("engine.checkpoint")

CLAIM_ATTEMPTS = 20
OWNER_FIELD = b"owner"  # who made the newest claim; gone with the first write of a snapshot

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Claim:
    """epoch: ours from now on. checkpoint: what the target has; nobody else can move it any more.

    was_there: there was one before.
    """

    epoch: int
    checkpoint: Checkpoint | None
    was_there: bool


class LineClaim:
    """The right to write one line on one target.

    connection_prefix: what the names of this line's data connections begin with; the epoch follows. selection: what the
    task takes along, as the checkpoint has it (Selection.text); None: it is only read, and may say
    anything. source_shard: goes into the checkpoint with each claim.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: TargetSettings,
        key: bytes,
        *,
        connection_prefix: str,
        selection: str | None = "",
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._key = key
        self._prefix = connection_prefix
        self._selection = selection
        self._made_anew = False  # there was none before the newest claim of ours
        self._owner = secrets.token_hex(8).encode()
        self.source_shard = ""

    def move_to(self, endpoint: Endpoint) -> None:
        """The target is somewhere else now: its primary failed over."""
        self._endpoint = endpoint

    async def close_older_on(
        self, endpoint: Endpoint, epoch: int, *, timeout_seconds: float | None = None
    ) -> None:
        """Close the line's older connections to another node of the same target. Raises as `take`."""
        await self._ask(
            lambda client: self._close_older_connections(client, epoch),
            endpoint,
            timeout_seconds=timeout_seconds,
        )

    async def take(self, known_epoch: int) -> Claim:
        """Raise the epoch, close the older connections of the line, then read the checkpoint.

        What an older connection has sent and the target has not yet taken would be applied behind our back,
        so the reading comes last. known_epoch: this process's own last one, 0 if it has had none.

        Raises:
            TargetUnreachable, TargetNotReady: no answer, or none yet. TargetAuthError: not permitted.
            TargetRefused: the key holds something else, or another process has taken over.
        """
        return await self._ask(lambda client: self._take(client, known_epoch))

    async def check(self, epoch: int) -> None:
        """Make sure that nobody has taken over; call when the data connection is up and named.

        Whoever takes over later finds that connection and closes it.
        """
        await self._ask(lambda client: self._check(client, epoch))

    async def peek(self) -> Checkpoint | None:
        """What the target has now; changes nothing, so somebody else may still move it."""
        return await self._ask(self._read)

    async def withdraw(self) -> None:
        """Remove the checkpoint that `take` made where there was none: nothing was written after all."""
        await self._ask(lambda client: client.delete(self._key))

    async def _ask(
        self,
        question: Callable[[Redis], Awaitable[AnswerT]],
        elsewhere: Endpoint | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> AnswerT:
        endpoint = elsewhere or self._endpoint
        client = control_client(
            endpoint, timeout_seconds=timeout_seconds or self._settings.connect_timeout_seconds
        )
        try:
            answer = await question(client)
            raise_if_cancelled()
        except NoPermissionError as error:
            raise TargetAuthError(
                f"the target {endpoint.address} does not permit the checkpoint to be kept: {error}",
                hint="grant it: ACL SETUSER <user> +hgetall +hget +hset +hdel +@transaction ~redis-ferry:*",
            ) from None
        except RedisError as error:
            raise self._error(error, endpoint) from error
        else:
            return answer
        finally:
            await client.aclose()

    def _error(self, error: RedisError, endpoint: Endpoint) -> Exception:
        text = reply_text(error)
        if "WRONGTYPE" in text:
            return TargetRefused(
                f"the target's key {self._key.decode('utf-8', 'replace')!r} is not a checkpoint",
                hint="delete it or use another --task-id",
            )
        if isinstance(error, AskError | MovedError):
            return TargetNotReady(
                f"the slot of the checkpoint moves in this moment on the target: {text}",
                code="TRYAGAIN",
            )
        return not_ready(endpoint, text) or TargetUnreachable(
            f"the checkpoint cannot be read from the target {endpoint.address}: {text}"
        )

    async def _read(self, client: Redis) -> Checkpoint | None:
        fields = cast(dict[bytes, bytes], await client.hgetall(self._key))
        return self._accepted(decode(fields, self._key))

    def _accepted(self, found: Checkpoint | None) -> Checkpoint | None:
        """Keys chosen by other options would stay on the target, or lack there."""
        if found is not None and self._selection is not None and found.selection != self._selection:
            raise TargetRefused(
                "the task began with another choice of keys, databases or commands: "
                f"{found.selection or 'none, everything'}",
                detail=f"now it is: {self._selection or 'none, everything'}",
                hint="give the options it began with; or start anew: another --task-id, or redis-ferry tasks forget, "
                "and a target without its keys",
            )
        return found

    async def _check(self, client: Redis, epoch: int) -> None:
        found = await self._read(client)
        if found is not None and found.epoch > epoch:
            raise self._taken_over(found.epoch, epoch)

    async def _take(self, client: Redis, known_epoch: int) -> Claim:
        epoch, was_there = await self._raise_epoch(client, known_epoch)
        await self._close_older_connections(client, epoch)
        return Claim(epoch, await self._read(client), was_there)

    async def _raise_epoch(self, client: Redis, known_epoch: int) -> tuple[int, bool]:
        """A checkpoint that is there gets the new epoch; where there is none, the first write brings it."""
        for _ in range(CLAIM_ATTEMPTS):
            async with client.pipeline(transaction=True) as pipe:
                await pipe.watch(self._key)
                raw = cast(dict[bytes, bytes], await pipe.hgetall(self._key))
                found = self._accepted(decode(raw, self._key))
                # A claim of ours may have been made although the connection broke before we knew.
                is_ours = raw.get(OWNER_FIELD) == self._owner
                if found is not None and 0 < known_epoch < found.epoch and not is_ours:
                    raise self._taken_over(found.epoch, known_epoch)
                epoch = max(known_epoch, found.epoch if found is not None else 0) + 1
                pipe.multi()  # type: ignore[no-untyped-call]
                fields: dict[Any, Any] = {"epoch": epoch, token(epoch, CLAIM_SERIAL): 1}
                self._made_anew = found is None or (is_ours and self._made_anew)
                if found is None:
                    pipe.delete(self._key)
                    fields |= snapshot_fields("", epoch, ledger="", selection=self._selection or "")
                elif found.tokens and not found.has_hole:
                    pipe.hdel(self._key, *found.tokens)
                if self.source_shard:
                    fields["source_shard"] = self.source_shard
                pipe.hset(self._key, mapping=fields | {OWNER_FIELD: self._owner})
                try:
                    await pipe.execute()
                except WatchError:
                    continue  # another process is taking over in this very moment
            # Nothing has been written since a claim whose answer got lost: its owner is still in it.
            return epoch, not self._made_anew
        raise TargetRefused(
            f"the checkpoint {self._key.decode('utf-8', 'replace')!r} changes all the time",
            hint="several redis-ferry run for this task: stop all but one",
        )

    def _taken_over(self, theirs: int, ours: int) -> TargetRefused:
        return TargetRefused(
            f"another redis-ferry has taken over this task: its run is number {theirs}, ours was {ours}",
            hint="let that one go on, or stop it before this one is started again",
        )

    async def _close_older_connections(self, client: Redis, epoch: int) -> None:
        try:
            for other in await client.client_list():
                if str(other.get("name", "")).startswith(self._prefix):
                    log.warning(
                        "target.old_connection_closed",
                        name=other["name"],
                        id=other["id"],
                        our_epoch=epoch,
                    )
                    await client.client_kill_filter(_id=str(other["id"]))
        except NoPermissionError as error:
            log.warning(
                "target.old_connections_not_closed",
                why=str(error),
                means="an older connection of this task could still write the snapshot",
                remedy="grant the target's user +@connection",
            )
