"""Blocks on their way to the target: limited, bounded, confirmed in order, counted.

One delivery for each line and target shard. It is where `applied` is decided: a block counts only when the
target has answered all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.replay.token_bucket import TokenBucket
from engine.settings import TargetSettings
from engine.stats import LineStats
from engine.target.replies import ReplyPolicy
from engine.target.shard_link import ShardLink


class Delivery:
    """The way to one target shard.

    on_applied: called with each new applied offset of the stream. on_failed: called when the target's link
    ends by itself. has_written: anything was sent that changes the target.
    """

    def __init__(
        self,
        *,
        limiter: TokenBucket,
        stats: LineStats,
        on_applied: Callable[[int], None],
        on_failed: Callable[[EngineError], None],
    ) -> None:
        self._limiter = limiter
        self._stats = stats
        self._on_applied = on_applied
        self._on_failed = on_failed
        self._link: ShardLink | None = None
        self.has_written = False

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
            on_failed=self._on_failed,
        )

    @property
    def link(self) -> ShardLink:
        """The open connection."""
        assert self._link is not None, "open() comes first"
        return self._link

    @property
    def oldest_received_seconds(self) -> float | None:
        """Monotonic time when the oldest unconfirmed bytes were received; None if there are none."""
        return None if self._link is None else self._link.oldest_received_seconds

    @property
    def keys_skipped(self) -> int:
        """Snapshot keys that the target kept under the `skip` policy."""
        return 0 if self._link is None else self._link.replies_skipped

    async def send(self, block: Block, received_seconds: float) -> None:
        """Send one block when the limit and the window allow it.

        received_seconds: monotonic time when its oldest bytes came from the source.
        Raises the error that ended the target's link.
        """
        block.received_seconds = received_seconds
        await self._limiter.take(len(block.data))
        if not self.link.has_room:
            await self.link.wait_for_room()
        self.has_written = True
        self.link.send(block)

    async def send_own(self, command: bytes) -> None:
        """One command of ours (the checkpoint, in database 0), and its answer."""
        self.has_written = True
        self.link.send(Block(data=encode("SELECT", 0) + command, replies=2))
        await self.link.drain()

    def note_offset(self, offset: int, db: int) -> None:
        """The stream moved on without a command to send: confirmed behind the blocks in flight."""
        if offset != self._stats.applied_offset or self.link.blocks_inflight:
            self.link.send(Block(data=b"", replies=0, offset=offset, db=db))

    def check_silence(self) -> None:
        """See ShardLink."""
        if self._link is not None:
            self._link.check_silence()

    async def drain(self) -> None:
        """Wait until everything sent is confirmed."""
        await self.link.drain()

    def close(self) -> None:
        """Drop the connection."""
        if self._link is not None:
            self._link.close()

    def _on_confirmed(self, block: Block) -> None:
        stats = self._stats
        stats.keys_applied += block.keys
        stats.bytes_applied += len(block.data)
        if block.offset < 0:
            return
        stats.commands_applied += block.commands
        stats.applied_offset = block.offset
        if block.commands:
            stats.apply_lag.add(time.monotonic() - block.received_seconds, block.commands)
        self._on_applied(block.offset)
