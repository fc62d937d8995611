"""Blocks on their way to a cluster: sorted by slot, each shard and each slot at its own pace.

What a shard takes goes through its lane (shard_lanes.py), one batch after the other. A slot that moves (MOVED, ASK, TRYAGAIN)
waits by itself (held_slots.py); any other trouble ends the stay, and the next one reads from the slots' own checkpoints what
each has. A block is applied when nothing of it is left in any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable

import structlog

from engine.background import Waiters, end_tasks
from engine.checkpoint.cluster_claim import ClusterClaim
from engine.codec.block import Block
from engine.codec.slot_batch import SlotBatch
from engine.codec.slot_router import SlotRouter
from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.replay.cluster_routing import ClusterRouting
from engine.replay.delivery import DeliveryEvents
from engine.replay.gather_steps import STEP_SECONDS
from engine.replay.held_slots import HeldSlots
from engine.replay.owed import Key
from engine.replay.primary_watch import PrimaryWatch
from engine.replay.shard_lanes import LaneEvents, Mark, ShardLanes
from engine.replay.sweep_block import SweepBlock
from engine.replay.token_bucket import TokenBucket
from engine.settings import TaskSettings
from engine.stats import LineStats
from engine.target.replies import (
    ReplyPolicy,
    is_about_missing_key,
    is_failure_of_the_source,
    is_settled_part,
    is_unloadable,
    place_of,
    raise_if_not_ready,
    rejected,
)
from engine.target.slot_link import PartBlock

log = structlog.get_logger("engine.replay")

# In the router; as much again may be on its way.
PENDING_BYTES = 8 * 1024 * 1024
# Of blocks of which something is not on the target: a shard that hangs holds up the others before they fill the memory.
UNCONFIRMED_BYTES = 32 * 1024 * 1024
SWEEP_SECONDS = 5.0
SWEEP_BYTES = 4 * 1024 * 1024


class ClusterDelivery:
    """The way to all shards. The interface is that of Delivery, and of its link.

    skip_until: the highest offset that a slot has; no sweep before it. is_in_snapshot: what is sent is of one. on_doubt: called with keys that may
    not be on the target as they are at the source: commands of a slot that waited were late, or applied twice.
    """

    def __init__(
        self,
        claim: ClusterClaim,
        router: SlotRouter,
        *,
        limiter: TokenBucket,
        stats: LineStats,
        events: DeliveryEvents,
        settings: TaskSettings,
        policy: ReplyPolicy,
        client_name: str,
    ) -> None:
        self._claim = claim
        self.router = router
        self._limiter = limiter
        self._stats = stats
        self._events = events
        self._policy = policy
        self.routing = ClusterRouting(router, claim, stats, settings, self._tell_all)
        self._lanes = ShardLanes(
            router,
            claim,
            settings.target_link,
            stats,
            policy=policy,
            client_name=client_name,
            events=LaneEvents(
                on_batch=self._on_batch,
                on_refused=self._hold,
                on_error=self._take_error,
                on_failed=self._fail,
            ),
        )
        self._held = HeldSlots(
            router,
            claim,
            self._lanes,
            stats,
            on_doubt=self._note_doubt,
            on_error=self._take_error,
            on_settled=self._on_batch,
            on_failed=self._fail,
        )
        self._watch = PrimaryWatch(
            silent=self._lanes.silent,
            is_idle=lambda: self.is_idle,
            ask=self._held.refresh,
            on_failed=self._fail,
        )
        self._blocks: deque[tuple[int, Block]] = deque()  # not on the target, with their numbers
        self._unconfirmed_bytes = 0  # of those
        self._count = 0
        self._offset = 0
        self._swept: tuple[bytes, int, int] | None = None
        self._passed_offset = -1  # of the last block that left `_blocks`
        self._swept_offset = -1
        self._swept_at = time.monotonic()
        self._bytes_since_sweep = 0
        self._waiters = Waiters()
        self._looking_after: asyncio.Task[None] | None = None
        self._error: EngineError | None = None
        self.skip_until = -1
        self.is_in_snapshot = self.has_written = self._told_of_split = False
        self.scripts_failed = 0
        self.on_block: Callable[[Block], None] | None = None
        self.on_doubt: Callable[[set[Key]], None] | None = None
        self.on_missing: Callable[[int, list[bytes]], None] | None = None
        self.on_unloadable: Callable[[int, list[bytes]], None] | None = None
        self.on_part_error: Callable[[list[bytes], str], bool] | None = None

    async def open(self) -> None:
        """Connect to every shard; raises TargetUnreachable or TargetAuthError."""
        await self._lanes.open()
        self._looking_after = asyncio.create_task(self._held.run(), name="held-slots")

    # ---- what Delivery and its link offer

    @property
    def link(self) -> ClusterDelivery:
        """Itself."""
        return self

    @property
    def trouble(self) -> str | None:
        """The slot that is waited for, if it is for long."""
        return self._held.trouble

    @property
    def unconfirmed(self) -> list[Block]:
        """Blocks that are not on the target, apart from slots that wait."""
        return [it for _, it in self._blocks]

    @property
    def is_holding(self) -> bool:
        """Whether a slot waits, with its commands."""
        return bool(self._held)

    @property
    def blocks_inflight(self) -> int:
        """How many."""
        return len(self._blocks)

    @property
    def is_idle(self) -> bool:
        """Whether everything sent is on the target."""
        return not self._blocks and not self._held and self._lanes.floor is None

    @property
    def is_open(self) -> bool:
        """Whether it can still be told anything."""
        return self._error is None

    @property
    def oldest_block_seconds(self) -> float | None:
        """Monotonic time when the oldest unconfirmed block was received, None if there is none."""
        return next((it.received_seconds for _, it in self._blocks if it.received_seconds), None)

    @property
    def oldest_received_seconds(self) -> float | None:
        """The same with slots that wait."""
        oldest = self.oldest_block_seconds
        held = self._held.oldest_seconds
        return held if oldest is None or (held is not None and held < oldest) else oldest

    async def send(self, block: Block, received_seconds: float) -> None:
        """Sort a block's commands by slot; they leave with the next batches.

        Raises the error that ended the delivery.
        """
        self.raise_error()
        if isinstance(block, SweepBlock):
            await self._sweep(block)
            return
        block.received_seconds = received_seconds
        piece_bytes = self._limiter.piece_bytes or len(block.data)
        for at in range(0, len(block.data), max(piece_bytes, 1)):
            await self._limiter.take(min(piece_bytes, len(block.data) - at))
        while (
            self.router.pending_bytes >= PENDING_BYTES
            or self._unconfirmed_bytes >= UNCONFIRMED_BYTES
            or self._held.is_full
        ):
            await self._wait()
        mark = self._next_mark()
        self._blocks.append((mark.number, block))
        self._unconfirmed_bytes += len(block.data)
        self._lanes.hold_back()
        self.router.add(block.data, block.index)
        block.index = None
        while self.router.run(block.offset):
            await self.routing.take_event(block.offset)
        self.routing.end_block(block.offset)
        self.has_written = True
        if block.offset >= 0:
            self._offset, self.router.source_db = block.offset, block.db
        self._bytes_since_sweep += len(block.data)
        self._lanes.note(mark, self._offset, len(block.data))
        if self._lanes.floor is None:
            self._confirm()  # the target has it all

    def _next_mark(self) -> Mark:
        self._count += 1
        return Mark(self._count, self._offset)

    async def _sweep(self, block: SweepBlock) -> None:
        """Every few seconds or MiB: those of slots that have had no commands since; all where more than the offset is new."""
        since = time.monotonic() - self._swept_at
        fields = (*block.every_slot, self.router.margin_since_ms)
        is_time = since >= SWEEP_SECONDS or self._bytes_since_sweep >= SWEEP_BYTES
        if block.offset < self.skip_until or not (block.is_due or is_time or fields != self._swept):
            return
        while self._held and block.is_due:
            await self._wait()
        if self._held:
            return
        mark = self._next_mark()
        if block.offset >= 0:
            self._offset, self.router.source_db = block.offset, block.db
        self._blocks.append((mark.number, block))
        is_whole = block.is_due or fields != self._swept
        self._lanes.sweep(
            mark, self._offset, block.every_slot if is_whole else None, self._swept_offset
        )
        self._swept, self._swept_offset = fields, self._offset
        self._swept_at, self._bytes_since_sweep = time.monotonic(), 0

    async def send_own(self, block: Block) -> None:
        """Commands of ours, and their answers."""
        has_written = self.has_written
        await self.send(block, 0.0)
        self.has_written = has_written  # of the source's
        await self.drain()

    def note_offset(self, offset: int, db: int) -> None:
        """The stream moved on without a command to send."""
        del db
        self.raise_error()
        if self.is_idle and offset != self._stats.applied_offset:
            self._stats.applied_offset = offset
            self._events.on_applied(offset)

    async def drain(self) -> None:
        """Wait until everything sent is confirmed."""
        while not self.is_idle or self._error is not None:
            await self._wait()

    async def drain_unless_held(self) -> bool:
        """Wait until everything sent is confirmed; False if a slot waits: there is no telling for how long."""
        while not self.is_idle or self._error is not None:
            if self._held:
                self.raise_error()
                return False
            await self._wait()
        return True

    async def wait_for_fewer(self, blocks: int) -> None:
        """For fewer, or for a moment: batches gather, and the next block may just as well be a fuller one."""
        self.raise_error()
        if self.blocks_inflight >= blocks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STEP_SECONDS):
                    await self._wait()
            self.raise_error()

    def check_silence(self) -> None:
        """See ShardLink; and whether a primary was replaced."""
        self._lanes.check_silence()
        self._watch.look()

    def raise_error(self) -> None:
        """Raise the error that ended it, if one has."""
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Drop the connections."""
        await self._lanes.close()
        await self._watch.close()
        if self._looking_after is not None:
            await end_tasks(self._looking_after)

    async def _wait(self) -> None:
        self.raise_error()
        await self._waiters.wait()
        self.raise_error()

    def _fail(self, error: EngineError) -> None:
        if self._error is None:
            self._error = error
            self._events.on_failed(error)
        self._waiters.wake()

    # ---- what has come to the target

    def _on_batch(self) -> None:
        """A batch has left, or was answered; or a slot has settled."""
        self._confirm()
        self._waiters.wake()

    def _confirm(self) -> None:
        floor = self._lanes.floor
        while self._blocks and (floor is None or self._blocks[0][0] < floor.number):
            self._count_block(self._blocks.popleft()[1])
        marks = [it for it in (floor, self._held.floor) if it is not None]
        offset = min([self._passed_offset, *(it.offset for it in marks)])
        if offset > self._stats.applied_offset:
            self._stats.applied_offset = offset
            self._events.on_applied(offset)

    def _count_block(self, block: Block) -> None:
        stats = self._stats
        self._unconfirmed_bytes -= len(block.data)
        if self.router.split_transactions and not self._told_of_split:
            self._told_of_split = True
            log.info(
                "stream.transaction_split",
                means="MULTI of the source over several slots: each slot takes its part by itself; more are counted and listed",
            )
        stats.keys_applied += block.keys
        stats.bytes_applied += len(block.data)
        if block.offset < 0:
            if not isinstance(block, SweepBlock):
                stats.snapshot_bytes_applied += len(block.data)
            return
        if isinstance(block, SweepBlock):
            return
        stats.commands_applied += block.commands
        self._passed_offset = block.offset
        if block.commands:
            stats.apply_lag.add(time.monotonic() - block.received_seconds, block.commands)
            if self.on_block is not None:
                self.on_block(block)

    def _hold(
        self, batch: SlotBatch, group: int, refusals: list[tuple[int, str]], mark: Mark
    ) -> None:
        self._held.hold(batch, group, refusals, mark)

    def _note_doubt(self, keys: set[Key]) -> None:
        if self.on_doubt is not None:
            self.on_doubt(keys)

    def _take_error(
        self, endpoint: Endpoint, block: Block, reply: int, element: int, text: str
    ) -> None:
        if self.is_in_snapshot:
            block.offset = -1  # lanes have the newest offset there was
        if is_failure_of_the_source(block, reply, element, text):
            self.scripts_failed += 1
            return
        if element < 0:
            raise_if_not_ready(endpoint, block, reply, text)
        if self.on_missing is not None and is_about_missing_key(block, text):
            self.on_missing(*place_of(block, reply, element))
            return
        if self.on_unloadable is not None and is_unloadable(block, text):
            self.on_unloadable(*place_of(block, reply, element))
            return
        if is_settled_part(block, reply, element, text, self.on_part_error):
            return
        error = rejected(block, reply, element, text, self._policy)
        if error is not None:
            raise error
        self._stats.keys_skipped += 1

    async def _tell_all(self, command: bytes) -> list[tuple[Endpoint, str]]:
        """Send a command without a key to every primary now; the error replies."""
        failed = []
        for endpoint in list(self._claim.endpoints):
            link = await self._lanes.link_to(endpoint)
            part = PartBlock(data=command, replies=1, offset=self._offset)
            await link.deliver(part)
            failed += [(endpoint, text) for _, _, text in part.errors]
        return failed
