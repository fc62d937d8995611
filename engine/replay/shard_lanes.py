"""The ways to a cluster's shards: one batch on its way to each, the next one gathers meanwhile.

A batch has at most one group for each slot, and a shard gets the next one only when it has answered, so within a slot
nothing overtakes what was refused; shards do not wait for each other. A slot that changes hands does so between two batches.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from engine.background import end_tasks
from engine.checkpoint.cluster_claim import ClusterClaim
from engine.cluster.topology import SLOTS
from engine.codec.block import Block
from engine.codec.slot_batch import SlotBatch
from engine.codec.slot_router import SlotRouter
from engine.endpoint import Endpoint
from engine.errors import EngineError, InternalError
from engine.replay.gather_steps import LOAD_BYTES, GatherSteps
from engine.settings import TargetSettings
from engine.stats import LineStats
from engine.target.replies import ReplyPolicy
from engine.target.slot_link import PartBlock, SlotLink

MOVING = ("MOVED", "ASK", "TRYAGAIN")
# Under load a batch gathers for so long at most, and so many bytes over all shards, so that a slot's transaction holds several
# commands: it costs the same for one and for ten; without transactions, so that not every few commands are a batch.
# Load is: so many bytes in the queues at once, and in each step of the wait (gather_steps.py).
GATHER_SECONDS = 0.08
PLAIN_GATHER_SECONDS = 0.02
GATHER_BYTES = 8 * 1024 * 1024


class Mark(NamedTuple):
    """A place among the blocks: number of the first one that is not on the target, offset of the one before it."""

    number: int
    offset: int


class Lane:
    """One shard. waiting, flying: since when something is in its queue, and in the batch on its way."""

    def __init__(self, number: int, endpoint: Endpoint) -> None:
        self.number = number
        self.endpoint = endpoint
        self.waiting: Mark | None = None
        self.waiting_seconds = 0.0
        self.flying: Mark | None = None
        self.every_slot: tuple[bytes, int] | None = None
        self.least = -1
        self.work = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def note(self, mark: Mark) -> None:
        """Something is in the queue since `mark`."""
        if self.waiting is None:
            self.waiting_seconds = time.monotonic()
            self.work.set()
        self.waiting = mark if self.waiting is None else min(self.waiting, mark)


@dataclass(frozen=True, slots=True)
class LaneEvents:
    """on_batch: a batch has left, or was answered. on_failed: what ends the stay.

    on_refused: called with the batch, a group and its refusals (reply, text); the slot is held then.
    on_error: the node, and any other error reply of it to a group, as a block; raises if it ends the stay.
    """

    on_batch: Callable[[], None]
    on_refused: Callable[[SlotBatch, int, list[tuple[int, str]], Mark], None]
    on_error: Callable[[Endpoint, Block, int, int, str], None]
    on_failed: Callable[[EngineError], None]


class ShardLanes:
    """All of them.

    offset: of the stream behind the last block that is in the router as a whole. added_bytes: of all blocks.
    """

    def __init__(
        self,
        router: SlotRouter,
        claim: ClusterClaim,
        settings: TargetSettings,
        stats: LineStats,
        *,
        policy: ReplyPolicy,
        client_name: str,
        events: LaneEvents,
    ) -> None:
        self._router = router
        self._claim = claim
        self._settings = settings
        self._stats = stats
        self._policy = policy
        self._client_name = client_name
        self._epoch = int(client_name.rpartition(":")[2])
        self._events = events
        self._lanes: dict[str, Lane] = {}
        self._links: dict[str, SlotLink] = {}
        self._opening = asyncio.Lock()
        self._whole = asyncio.Event()
        self._whole.set()
        self._is_settled = True
        self._steps = GatherSteps(lambda: self.added_bytes)
        self._table = array("i", [-1]) * SLOTS
        self.offset = 0
        self.added_bytes = 0

    # ---- what the delivery asks

    async def open(self) -> None:
        """Connect to every shard; raises TargetUnreachable or TargetAuthError."""
        self._note_map()
        self._router.place(self._table)
        async with self._opening:
            opened = await asyncio.gather(
                *(self._open(it.endpoint) for it in self._lanes.values()), return_exceptions=True
            )
        for it in opened:
            if isinstance(it, BaseException):
                raise it
        await self._claim.check(self._epoch)

    @property
    def floor(self) -> Mark | None:
        """The first block of which something is not on the target, apart from slots that are held."""
        marks = [mark for it in self._lanes.values() for mark in (it.flying, it.waiting) if mark]
        return min(marks) if marks else None

    def hold_back(self) -> None:
        """Half a block is in the router: no batch may leave."""
        self._whole.clear()

    def note(self, mark: Mark, offset: int, block_bytes: int) -> None:
        """The block `mark` is in the router as a whole, the stream is at `offset`."""
        self.offset = offset
        self.added_bytes += block_bytes
        for lane in self._lanes.values():
            if lane.waiting is None and self._router.has_any(lane.number):
                lane.note(mark)
        self._whole.set()

    def sweep(
        self, mark: Mark, offset: int, every_slot: tuple[bytes, int] | None, least: int
    ) -> None:
        """The next batch of each lane writes checkpoints of slots without commands; see SlotRouter.take_batch."""
        self.offset = offset
        for lane in self._lanes.values():
            lane.every_slot = every_slot or lane.every_slot
            lane.least = max(lane.least, least)
            lane.note(mark)

    def lane_of(self, slot: int) -> Lane:
        """Who serves a slot by the newest map."""
        number = self._table[slot]
        return next(it for it in self._lanes.values() if it.number == number)

    def apply_map(self) -> None:
        """Give the slots to who serves them now; those in a batch on its way when it has been answered."""
        self._note_map()
        self._settle()

    def silent(self, seconds: float) -> list[str]:
        """Addresses of nodes that owe replies and have sent none for so long."""
        return [address for address, it in self._links.items() if it.silent_seconds >= seconds]

    def check_silence(self) -> None:
        """See ShardLink."""
        for link in self._links.values():
            link.check_silence()

    async def close(self) -> None:
        """Drop the connections."""
        self._steps.close()
        for link in self._links.values():
            link.close()
        await end_tasks(*(it.task for it in self._lanes.values() if it.task is not None))

    async def link_to(self, endpoint: Endpoint) -> SlotLink:
        """The connection to a node; raises TargetUnreachable, TargetAuthError, TargetRefused."""
        async with self._opening:
            link = self._links.get(endpoint.address)
            if link is not None and link.error is not None:
                raise link.error  # whoever answers there now may lack what was confirmed: read it first
            if link is None:
                link = await self._open(endpoint)
                await self._claim.check(self._epoch)
            return link

    async def _open(self, endpoint: Endpoint) -> SlotLink:
        link = self._links[endpoint.address] = await SlotLink.open(
            endpoint,
            self._settings,
            client_name=self._client_name,
            policy=self._policy,
            on_confirmed=lambda _: None,
            on_failed=self._events.on_failed,
        )
        return link

    # ---- who serves what

    def _note_map(self) -> None:
        numbers = []
        for endpoint in self._claim.endpoints:
            lane = self._lanes.get(endpoint.address)
            if lane is None:
                lane = self._lanes[endpoint.address] = Lane(self._router.add_queue(), endpoint)
                lane.task = asyncio.create_task(self._run(lane), name=f"lane {endpoint.address}")
            numbers.append(lane.number)
        by_shard = self._claim.map.table()
        self._table = array("i", [numbers[it] for it in by_shard])
        self._is_settled = False

    def _settle(self) -> None:
        if self._is_settled:
            return
        lanes = self._lanes.values()
        is_busy = bytearray(1 + len(self._lanes))
        for lane in lanes:
            is_busy[lane.number] = lane.flying is not None
        waiting = [it.waiting for it in lanes if it.waiting is not None]
        self._is_settled = self._router.settle(self._table, bytes(is_busy))
        for lane in lanes:
            if waiting and self._router.has_any(lane.number):
                lane.note(min(waiting))
        if self._is_settled:
            self._close_left()

    def _close_left(self) -> None:
        """Nodes without slots may go away: that would end the stay for nothing."""
        serving = {it.address for it in self._claim.endpoints}
        for address in [it for it in self._links if it not in serving]:
            lane = self._lanes.get(address)
            if lane is None or (lane.flying is None and lane.waiting is None):
                self._links.pop(address).close()

    # ---- one batch after the other

    async def _run(self, lane: Lane) -> None:
        try:
            while True:
                await lane.work.wait()
                await self._gather(lane)
                await self._whole.wait()
                await self._send_batch(lane)
        except EngineError as error:
            self._events.on_failed(error)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._events.on_failed(InternalError(f"the delivery to the cluster failed: {error!r}"))

    async def _gather(self, lane: Lane) -> None:
        router = self._router
        if router.pending_bytes < LOAD_BYTES:
            return
        most_seconds = GATHER_SECONDS if router.is_transaction else PLAIN_GATHER_SECONDS
        full_bytes = GATHER_BYTES // max(len(self._lanes), 1)
        is_loaded = True
        while (
            is_loaded
            and router.bytes_of(lane.number) < full_bytes
            and time.monotonic() - lane.waiting_seconds < most_seconds
        ):
            is_loaded = await self._steps.pass_one()

    async def _send_batch(self, lane: Lane) -> None:
        router = self._router
        mark = lane.flying = lane.waiting
        assert mark is not None
        every_slot, least = lane.every_slot, lane.least
        lane.waiting, lane.every_slot, lane.least = None, None, -1
        lane.work.clear()
        batch = router.take_batch(lane.number, self.offset, every_slot, least)
        self._events.on_batch()  # there is room in the router
        if batch.total_replies:
            part = PartBlock(data=batch.data, replies=batch.total_replies, offset=batch.offset)
            link = await self.link_to(lane.endpoint)
            sent_seconds = time.monotonic()
            await link.deliver(part)
            self._stats.reply_latency.add(time.monotonic() - sent_seconds)
            if part.errors:
                self._read_errors(lane.endpoint, batch, part, mark)
        lane.flying = None
        self._settle()
        self._events.on_batch()

    def _read_errors(
        self, endpoint: Endpoint, batch: SlotBatch, part: PartBlock, mark: Mark
    ) -> None:
        """Hold the groups that were turned away because their slot moves; any other error is told."""
        refused: dict[int, list[tuple[int, str]]] = {}
        for reply, element, text in part.errors:
            group, at = batch.group_after(reply)
            if text.startswith(MOVING):
                refused.setdefault(group, []).append((at, text))
            elif group not in refused or not batch.is_transaction:
                block = Block(
                    data=batch.group_data(group),
                    replies=batch.replies[group],
                    offset=batch.offset,
                    is_transaction=batch.is_transaction,
                )
                self._events.on_error(endpoint, block, at, element, text)
            # Else EXECABORT, behind the command that was turned away.
        for group, refusals in refused.items():
            self._events.on_refused(batch, group, refusals, mark)
