"""One stay at the target: from taking the line over to the end of the data connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from engine.checkpoint.checkpoint import (
    CLAIM_SERIAL,
    GUARD_REPLIES,
    WRITE_REPLIES,
    guarded_write,
    snapshot_fields,
    stream_fields,
    token,
)
from engine.checkpoint.claim import Claim, LineClaim
from engine.cluster.slot_holders import SlotHolders
from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.stream import StreamTranscoder
from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.position import Position
from engine.replay.delivery import Delivery, DeliveryEvents
from engine.replay.keys_in_doubt import KeysInDoubt
from engine.replay.token_bucket import TokenBucket
from engine.settings import ConflictPolicy, DeliveryMode, TargetSettings, TaskSettings
from engine.stats import LineStats
from engine.target.capabilities import Capabilities, probe_target
from engine.target.replies import ReplyPolicy


class TargetSession:
    """The right and the connection to write one line.

    checkpoint: what the target had when the line was taken over; had_checkpoint: whether it had one. epoch: ours. serial: number of our newest write that
    moves the token (checkpoint.py); the stream's transcoder counts on from it. ledger_id: goes into the checkpoint.
    """

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        *,
        key: bytes,
        capabilities: Capabilities,
        claim: Claim,
        delivery: Delivery,
        is_exactly_once: bool,
        ledger_id: str,
        endpoint: Endpoint,
        settings: TargetSettings,
        selection: str = "",
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self.key = key
        self.capabilities = capabilities
        self.epoch = claim.epoch
        self.checkpoint = claim.checkpoint
        self.had_checkpoint = claim.was_there
        self.delivery = delivery
        self.is_exactly_once = is_exactly_once
        self.ledger_id = ledger_id
        self.serial = CLAIM_SERIAL
        self.source_shard = ""  # goes into a checkpoint that begins anew
        self.is_cluster = False
        self.in_doubt: KeysInDoubt | None = None
        self._selection = selection

    @classmethod
    async def open(  # noqa: PLR0913 - keyword-only; the line has them at hand
        cls,
        settings: TaskSettings,
        claim: LineClaim,
        *,
        key: bytes,
        connection_prefix: str,
        known_epoch: int,
        ledger_id: str,
        accept: Callable[[Capabilities], None],
        limiter: TokenBucket,
        stats: LineStats,
        events: DeliveryEvents,
    ) -> TargetSession:
        """Ask what the target is, take the line over, connect.

        accept: raises if this target is not to be written to.
        Raises:
            TargetUnreachable, TargetNotReady, TargetAuthError, TargetRefused.
        """
        is_exactly_once = settings.delivery is DeliveryMode.EXACTLY_ONCE
        capabilities = await probe_target(settings.target, settings.target_link)
        accept(capabilities)
        claimed = await claim.take(known_epoch)
        delivery = Delivery(limiter=limiter, stats=stats, events=events)
        try:
            await delivery.open(
                settings.target,
                settings.target_link,
                client_name=f"{connection_prefix}{claimed.epoch}",
                policy=ReplyPolicy(skip_existing=settings.on_conflict is ConflictPolicy.SKIP),
            )
            await claim.check(claimed.epoch)
        except BaseException:
            delivery.close()
            if not claimed.was_there:
                with contextlib.suppress(EngineError):
                    await claim.withdraw()
            raise
        return cls(
            key=key,
            capabilities=capabilities,
            claim=claimed,
            delivery=delivery,
            is_exactly_once=is_exactly_once,
            ledger_id=ledger_id,
            endpoint=settings.target,
            settings=settings.target_link,
            selection=settings.selection.text,
        )

    def snapshot_fields(self, replid: str) -> dict[str, str]:
        """The checkpoint of a snapshot that is not applied in whole."""
        fields = snapshot_fields(
            replid, self.epoch, ledger=self.ledger_id, selection=self._selection
        )
        return fields | ({"source_shard": self.source_shard} if self.source_shard else {})

    def stream_fields(self, position: Position, db: int, *, margin_since_ms: int) -> dict[str, str]:
        """The checkpoint of a place in the stream."""
        return stream_fields(
            position, db, self.epoch, ledger=self.ledger_id, margin_since_ms=margin_since_ms
        )

    @property
    def trouble(self) -> str | None:
        """What the delivery waits for, beyond an ordinary answer."""
        return self.delivery.trouble

    def note_progress(self, transcoder: StreamTranscoder) -> None:
        """Called before each block of the stream is sent."""

    def has_applied(self, key: bytes, offset: int) -> bool:  # noqa: ARG002 - of a cluster's slots
        """Whether the target has the stream up to `offset` for this key, although it has not for all."""
        return False

    def last_checkpoint_block(self, fields: Mapping[str, str]) -> Block:
        """The checkpoint before a stop."""
        return self.checkpoint_block(fields)

    @property
    def endpoint(self) -> Endpoint:
        """The server, or one of the cluster."""
        return self._endpoint

    async def holders(self) -> SlotHolders | None:
        """Of a cluster which primaries have which slots now; None: all keys are at `endpoint`."""
        return None

    @property
    def reply_timeout_seconds(self) -> float:
        """For control connections that may wait as long as the data."""
        return self._settings.reply_timeout_seconds

    async def write_checkpoint(self, fields: Mapping[str, str], *, anew: bool = False) -> None:
        """Write the checkpoint and wait until the target has it. anew: nothing older stays in the hash."""
        await self.delivery.send_own(self.checkpoint_block(fields, anew=anew))

    def checkpoint_block(self, fields: Mapping[str, str], *, anew: bool = False) -> Block:
        """The commands that write the checkpoint behind everything sent before."""
        if not self.is_exactly_once:
            flat = [text for pair in fields.items() for text in pair]
            removal = encode("DEL", self.key) if anew else b""
            return Block(data=removal + encode("HSET", self.key, *flat), replies=1 + anew)
        before, after = self._next_tokens()
        data = guarded_write(self.key, before=before, after=after, fields=fields, anew=anew)
        return Block(
            data=data, replies=WRITE_REPLIES, is_transaction=True, guard_replies=GUARD_REPLIES
        )

    async def remove_checkpoint(self) -> None:
        """Remove the checkpoint: the task is over."""
        block = self.guarded([encode("DEL", self.key)])
        await self.delivery.send_own(block)

    def guarded(self, commands: list[bytes]) -> Block:
        """Commands of ours that only happen if nobody has taken over; they start and end in database 0."""
        if not self.is_exactly_once:
            return Block(data=b"".join(commands), replies=len(commands))
        before, after = self._next_tokens()
        data = guarded_write(self.key, before=before, after=after, fields={}, commands=commands)
        return Block(
            data=data,
            replies=WRITE_REPLIES + len(commands),
            is_transaction=True,
            guard_replies=GUARD_REPLIES,
        )

    def _next_tokens(self) -> tuple[bytes, bytes]:
        self.serial += 1
        return token(self.epoch, self.serial - 1), token(self.epoch, self.serial)

    def close(self) -> None:
        """Drop the connection."""
        self.delivery.close()
