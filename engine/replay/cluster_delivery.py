"""Blocks on their way to a cluster: sorted by slot, one batch at a time, each group of a slot with its own fate.

While a batch is on its way to all shards the next one is filled. A batch has at most one group for each slot and the next
one leaves only when every group is on the target, so within a slot nothing overtakes what was refused. A slot that
moves (MOVED, ASK, TRYAGAIN) holds the batch until it has settled; any other trouble ends the stay, and the next one reads
from the slots' own checkpoints what each has.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from engine.background import end_tasks
from engine.checkpoint.cluster_claim import ClusterClaim
from engine.cluster.topology import failed_over
from engine.codec.block import Block
from engine.codec.slot_router import SlotBatch, SlotRouter, split
from engine.errors import EngineError, InternalError, TargetLinkLost
from engine.replay.cluster_routing import ClusterRouting
from engine.replay.delivery import DeliveryEvents
from engine.replay.token_bucket import TokenBucket
from engine.settings import TargetSettings
from engine.stats import LineStats
from engine.target.replies import (
    ReplyPolicy,
    is_about_missing_key,
    is_failure_of_the_source,
    place_of,
    raise_if_not_ready,
    rejected,
)
from engine.target.slot_link import PartBlock, SlotLink

log = structlog.get_logger("engine.replay")

BATCH_BYTES = 1024 * 1024
SWEEP_SECONDS = 5.0
SWEEP_BYTES = 8 * 1024 * 1024
FIRST_WAIT_SECONDS = 0.005
LONGEST_WAIT_SECONDS = 0.2
TELL_SECONDS = 5.0
_MOVING = ("MOVED", "ASK", "TRYAGAIN")


class SweepBlock(Block):
    """Not commands: the checkpoint of every slot. every_slot: see SlotRouter.take_batch. is_due: now, not when it pleases."""

    __slots__ = ("every_slot", "is_due")

    def __init__(self, every_slot: tuple[bytes, int], *, offset: int, is_due: bool) -> None:
        super().__init__(data=b"", replies=0, offset=offset)
        self.every_slot = every_slot
        self.is_due = is_due


class ClusterDelivery:
    """The way to all shards. The interface is that of Delivery, and of its link.

    skip_until: the highest offset that a slot has; no sweep before it. trouble: the slot that is waited for.
    """

    def __init__(
        self,
        claim: ClusterClaim,
        router: SlotRouter,
        *,
        limiter: TokenBucket,
        stats: LineStats,
        events: DeliveryEvents,
        settings: TargetSettings,
        policy: ReplyPolicy,
        client_name: str,
    ) -> None:
        self._claim = claim
        self.router = router
        self._limiter = limiter
        self._stats = stats
        self._events = events
        self._settings = settings
        self._policy = policy
        self._client_name = client_name
        self._epoch = int(client_name.rpartition(":")[2])
        self._routing = ClusterRouting(router, claim, settings, stats)
        self._table = claim.map.table()
        self._links: dict[str, SlotLink] = {}
        self._pending: deque[Block] = deque()  # in the router
        self._flying: deque[Block] = deque()  # in the batch on its way
        self._sweep: SweepBlock | None = None
        self._offset = 0
        self._swept_at = time.monotonic()
        self._bytes_since_sweep = 0
        self._changed = asyncio.Condition()
        self._pump: asyncio.Task[None] | None = None
        self._error: EngineError | None = None
        self.skip_until = -1
        self.has_written = False
        self.scripts_failed = 0
        self._told_of_split = False
        self.trouble: str | None = None
        self.on_block: Callable[[Block], None] | None = None
        self.on_missing: Callable[[int, list[bytes]], None] | None = None

    async def open(self) -> None:
        """Connect to every shard; raises TargetUnreachable or TargetAuthError."""
        for number in range(len(self._claim.endpoints)):
            await self._link_of(number)
        self._pump = asyncio.create_task(self._run(), name="cluster-delivery")

    async def _link_of(self, number: int) -> SlotLink:
        endpoint = self._claim.endpoints[number]
        link = self._links.get(endpoint.address)
        if link is not None and link.error is not None:
            raise link.error  # whoever answers there now may lack what was confirmed: read it first
        if link is None:
            link = self._links[endpoint.address] = await SlotLink.open(
                endpoint,
                self._settings,
                client_name=self._client_name,
                policy=self._policy,
                on_confirmed=lambda _: None,
                on_failed=self._fail,
            )
            await self._claim.check(self._epoch)
        return link

    # ---- what Delivery and its link offer

    @property
    def link(self) -> ClusterDelivery:
        """Itself."""
        return self

    @property
    def unconfirmed(self) -> list[Block]:
        """Blocks that not all slots have confirmed."""
        return [*self._flying, *self._pending]

    @property
    def blocks_inflight(self) -> int:
        """How many."""
        return len(self._flying) + len(self._pending)

    @property
    def oldest_received_seconds(self) -> float | None:
        """Monotonic time when the oldest unconfirmed bytes were received; None if there are none."""
        return next((it.received_seconds for it in self.unconfirmed if it.received_seconds), None)

    async def send(self, block: Block, received_seconds: float) -> None:
        """Sort a block's commands by slot; they leave when the batch before them is on the target.

        Raises the error that ended the delivery.
        """
        self.raise_error()
        if isinstance(block, SweepBlock):
            await self._note_sweep(block)
            return
        block.received_seconds = received_seconds
        piece_bytes = self._limiter.piece_bytes or len(block.data)
        for at in range(0, len(block.data), max(piece_bytes, 1)):
            await self._limiter.take(min(piece_bytes, len(block.data) - at))
        while self.router.pending_bytes >= BATCH_BYTES:
            await self._wait()
        self.router.add(block.data)
        while self.router.run(block.offset):
            await self._routing.take_event(block.offset, self._broadcast)
        self.has_written = True
        if block.offset >= 0:
            self._offset = block.offset
        self._bytes_since_sweep += len(block.data)
        self._pending.append(block)
        await self._wake()

    async def _note_sweep(self, block: SweepBlock) -> None:
        since = time.monotonic() - self._swept_at
        is_time = since >= SWEEP_SECONDS or self._bytes_since_sweep >= SWEEP_BYTES
        if block.offset < self.skip_until or not (block.is_due or is_time):
            return
        # What is in it must be true when it leaves: it goes with all that was sent before.
        while self._sweep is not None:
            await self._wait()
        if block.offset >= 0:
            self._offset = block.offset
        self._sweep = block
        self._swept_at, self._bytes_since_sweep = time.monotonic(), 0
        self._pending.append(block)
        await self._wake()
        while self._sweep is block:
            await self._wait()

    async def send_own(self, block: Block) -> None:
        """Commands of ours, and their answers."""
        await self.send(block, 0.0)
        await self.drain()

    def note_offset(self, offset: int, db: int) -> None:
        """The stream moved on without a command to send."""
        del db
        if self._error is not None:
            raise self._error
        if not self.blocks_inflight and offset != self._stats.applied_offset:
            self._stats.applied_offset = offset
            self._events.on_applied(offset)

    async def drain(self) -> None:
        """Wait until everything sent is confirmed."""
        while self.blocks_inflight or self._error is not None:
            await self._wait()

    async def wait_for_fewer(self, blocks: int) -> None:
        """Wait until fewer than `blocks` are unconfirmed."""
        while self.blocks_inflight >= blocks or self._error is not None:
            await self._wait()

    def check_silence(self) -> None:
        """See ShardLink."""
        for link in self._links.values():
            link.check_silence()

    def raise_error(self) -> None:
        """Raise the error that ended it, if one has."""
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Drop the connections."""
        for link in self._links.values():
            link.close()
        await end_tasks(self._pump)

    async def _wait(self) -> None:
        self.raise_error()
        async with self._changed:
            await self._changed.wait()
        self.raise_error()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _fail(self, error: EngineError) -> None:
        if self._error is None:
            self._error = error
            self._events.on_failed(error)
        self._waking = asyncio.ensure_future(self._wake())

    # ---- one batch after the other

    async def _run(self) -> None:
        try:
            while True:
                while not self._pending:
                    async with self._changed:
                        await self._changed.wait_for(lambda: bool(self._pending))
                sweep, self._sweep = self._sweep, None
                batch = self.router.take_batch(
                    self._offset, None if sweep is None else sweep.every_slot
                )
                self._flying, self._pending = self._pending, deque()
                self.raise_error()
                await self._wake()
                await self._deliver(batch)
                self._confirm()
                await self._wake()
        except EngineError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._fail(InternalError(f"the delivery to the cluster failed: {error!r}"))

    def _confirm(self) -> None:
        stats = self._stats
        stats.slot_commands_skipped = self.router.skipped
        if self.router.split_transactions and not self._told_of_split:
            self._told_of_split = True
            log.info(
                "stream.transaction_split",
                means="MULTI of the source over several slots: each slot takes its part by itself; more are only counted",
            )
        stats.cross_slot_split = self._routing.split + self.router.split_transactions
        blocks, self._flying = self._flying, deque()
        for block in blocks:
            stats.keys_applied += block.keys
            stats.bytes_applied += len(block.data)
            if block.offset < 0 or isinstance(block, SweepBlock):
                continue
            stats.commands_applied += block.commands
            stats.applied_offset = block.offset
            if block.commands:
                stats.apply_lag.add(time.monotonic() - block.received_seconds, block.commands)
                if self.on_block is not None:
                    self.on_block(block)
            self._events.on_applied(block.offset)

    async def _deliver(self, batch: SlotBatch) -> None:
        """Until every group is on the target."""
        wait_seconds, began, told_at = FIRST_WAIT_SECONDS, time.monotonic(), 0.0
        while True:
            moving = await self._send_once(batch)
            if not moving:
                self.trouble = None
                return
            now = time.monotonic()
            if not told_at:
                self._stats.slot_waits += 1
            if now - began > TELL_SECONDS and now - told_at > TELL_SECONDS:
                told_at = now
                slot, text = next(iter(moving.items()))
                self.trouble = (
                    f"slot {slot} of the target is being moved and does not settle: {text}"
                )
                log.warning("slot.waits", slots=sorted(moving), why=text)
            told_at = told_at or began
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
            before = self._claim.map
            if await self._claim.refresh():
                self._stats.topology_changes += 1
                if failed_over(before, self._claim.map):
                    raise TargetLinkLost("a primary of the target cluster was replaced by another")
            self._table = self._claim.map.table()

    async def _send_once(self, batch: SlotBatch) -> dict[int, str]:
        """Send what the target lacks; the slots that are moving, with what the target said."""
        parts = []
        for number, (data, replies, runs) in split(batch, self._table).items():
            groups = [it for first, last in runs for it in range(first, last)]
            part = PartBlock(data=data, replies=replies, groups=groups, offset=batch.offset)
            parts.append((await self._link_of(number), part))
        for link, part in parts:
            link.send(part)
        for link, _ in parts:
            await link.drain()
        moving: dict[int, str] = {}
        for _, part in parts:
            failed = self._read_errors(batch, part)
            for group in part.groups:
                if group in failed:
                    moving[batch.slots[group]] = failed[group]
                else:
                    batch.applied[group] = 1
        return moving

    def _read_errors(self, batch: SlotBatch, part: PartBlock) -> dict[int, str]:
        """Groups that were turned away because their slot moves; any other error is raised."""
        failed: dict[int, str] = {}
        for reply, element, text in part.errors:
            group, at = batch.group_after(part.groups, reply)
            if group in failed:
                continue  # EXECABORT behind the command that was turned away
            if text.startswith(_MOVING):
                failed[group] = text
                continue
            self._take_error(batch, group, at, element, text)
        return failed

    def _take_error(
        self, batch: SlotBatch, group: int, reply: int, element: int, text: str
    ) -> None:
        block = Block(
            data=batch.group_data(group),
            replies=batch.replies[group],
            offset=batch.offset,
            is_transaction=batch.is_transaction,
        )
        if is_failure_of_the_source(block, reply, element, text):
            self.scripts_failed += 1
            return
        if element < 0:
            raise_if_not_ready(self._claim.endpoints[0], block, reply, text)
        if self.on_missing is not None and is_about_missing_key(block, text):
            self.on_missing(*place_of(block, reply, element))
            return
        if "already exists" in text and b"FUNCTION" in block.data:
            return  # sent again, or by another line
        error = rejected(block, reply, element, text, self._policy)
        if error is not None:
            raise error
        self._stats.keys_skipped += 1

    async def _broadcast(self, command: bytes, *, to_all: bool) -> None:
        """A command without a key, behind all that was sent before it: to every primary, or to one."""
        while self._flying or self._pending:
            await self._wait()
        for number in range(len(self._claim.endpoints) if to_all else 1):
            link = await self._link_of(number)
            part = PartBlock(data=command, replies=1, groups=[], offset=self._offset)
            link.send(part)
            await link.drain()
            for _, element, text in part.errors:
                if "already exists" in text:
                    continue
                error = rejected(part, 0, element, text, self._policy)
                if error is not None:
                    raise error
