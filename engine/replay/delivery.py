"""Blocks on their way to the target: limited, bounded, confirmed in order, counted.

One delivery for each line and target shard. It is where `applied` is decided: a block counts only when the
target has answered all of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.codec.block import Block
from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.replay.owed import Key
from engine.replay.primary_watch import PrimaryWatch, refuse_replaced
from engine.replay.token_bucket import TokenBucket
from engine.settings import TargetSettings
from engine.stats import LineStats
from engine.target.replies import ReplyPolicy
from engine.target.shard_link import ShardLink


@dataclass(frozen=True, slots=True)
class DeliveryEvents:
    """on_applied(offset): the target has the stream up to there. on_failed(error): its link ended by itself."""

    on_applied: Callable[[int], None]
    on_failed: Callable[[EngineError], None]


class Delivery:
    """The way to one target shard.

    has_written: anything of the source's was sent. on_block: called with each block of the stream that is confirmed.
    on_doubt: see ClusterDelivery.
    """

    def __init__(self, *, limiter: TokenBucket, stats: LineStats, events: DeliveryEvents) -> None:
        self._limiter = limiter
        self._stats = stats
        self._events = events
        self._link: ShardLink | None = None
        self._watch: PrimaryWatch | None = None
        self.has_written = False
        self.trouble: str | None = None
        self.on_block: Callable[[Block], None] | None = None
        self.on_doubt: Callable[[set[Key]], None] | None = None

    async def open(
        self, endpoint: Endpoint, settings: TargetSettings, *, client_name: str, policy: ReplyPolicy
    ) -> None:
        """Connect to the target; raises TargetUnreachable or TargetAuthError."""
        self._link = await ShardLink.open(
            endpoint,
            settings,
            client_name=client_name,
            policy=policy,
            on_confirmed=self._on_confirmed,
            on_failed=self._events.on_failed,
        )

    def watch(self, sentinels: Endpoint, primary: Endpoint) -> None:
        """End the link when the Sentinels name another primary than the one that it goes to."""
        link = self.link
        self._watch = PrimaryWatch(
            silent=lambda seconds: [primary.address] if link.silent_seconds >= seconds else [],
            is_idle=lambda: not link.blocks_inflight,
            ask=lambda _: refuse_replaced(sentinels, primary),
            on_failed=link.fail,
        )

    @property
    def link(self) -> ShardLink:
        """The open connection."""
        assert self._link is not None, "open() comes first"
        return self._link

    @property
    def is_open(self) -> bool:
        """Whether it can still be told anything."""
        return self._link is not None and self._link.error is None

    @property
    def oldest_received_seconds(self) -> float | None:
        """Monotonic time when the oldest unconfirmed bytes were received; None if there are none."""
        return None if self._link is None else self._link.oldest_received_seconds

    async def send(self, block: Block, received_seconds: float) -> None:
        """Send one block when the limit and the window allow it.

        received_seconds: monotonic time when its oldest bytes came from the source.
        Raises the error that ended the target's link.
        """
        block.received_seconds = received_seconds
        link = self.link
        piece_bytes = self._limiter.piece_bytes
        if piece_bytes == 0 or len(block.data) <= piece_bytes:
            await self._limiter.take(len(block.data))
            if not link.has_room:
                await link.wait_for_room()
            self.has_written = True
            block.sent_seconds = time.monotonic()
            link.send(block)
            return
        if not link.has_room:
            await link.wait_for_room()
        self.has_written = True
        link.begin(block)
        view = memoryview(block.data)
        for at in range(0, len(view), piece_bytes):
            piece = view[at : at + piece_bytes]
            await self._limiter.take(len(piece))
            block.sent_seconds = time.monotonic()
            link.write(piece)

    async def send_own(self, block: Block) -> None:
        """Commands of ours (the checkpoint, in database 0), and their answers."""
        self.link.send(block)
        await self.link.drain()

    @property
    def unconfirmed(self) -> list[Block]:
        """Blocks sent or begun that the target has not confirmed."""
        return [] if self._link is None else self._link.unconfirmed

    @property
    def is_holding(self) -> bool:
        """As ClusterDelivery's: no slot waits."""
        return False

    def note_offset(self, offset: int, db: int) -> None:
        """The stream moved on without a command to send: confirmed behind the blocks in flight."""
        if offset != self._stats.applied_offset or self.link.blocks_inflight:
            self.link.send(Block(data=b"", replies=0, offset=offset, db=db))

    def check_silence(self) -> None:
        """See ShardLink; and whether the primary was replaced."""
        if self._link is not None:
            self._link.check_silence()
        if self._watch is not None:
            self._watch.look()

    def raise_error(self) -> None:
        """Raise the error that ended the target's link, if one has."""
        if self._link is not None and self._link.error is not None:
            raise self._link.error

    async def drain(self) -> None:
        """Wait until everything sent is confirmed."""
        await self.link.drain()

    async def drain_unless_held(self) -> bool:
        """As `drain`; False if a slot waits instead (ClusterDelivery)."""
        await self.drain()
        return True

    def close(self) -> None:
        """Drop the connection."""
        if self._watch is not None:
            self._closing = asyncio.ensure_future(self._watch.close())
        if self._link is not None:
            self._link.close()

    def _on_confirmed(self, block: Block) -> None:
        stats, now = self._stats, time.monotonic()
        stats.keys_applied += block.keys
        stats.bytes_applied += len(block.data)
        stats.keys_skipped += block.skipped
        if block.sent_seconds:
            stats.reply_latency.add(now - block.sent_seconds)
        if block.offset < 0:
            stats.snapshot_bytes_applied += len(block.data)
            return
        stats.commands_applied += block.commands
        stats.applied_offset = block.offset
        if block.commands:
            stats.apply_lag.add(now - block.received_seconds, block.commands)
            if self.on_block is not None:
                self.on_block(block)
        self._events.on_applied(block.offset)
