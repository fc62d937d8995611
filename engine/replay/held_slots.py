"""Slots of the target that are being moved: each waits by itself, its commands behind it, until it has settled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from engine.checkpoint.cluster_claim import ClusterClaim
from engine.cluster.topology import failed_over, place_in_redirection
from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.slot_batch import SlotBatch
from engine.codec.slot_router import HELD_QUEUE, SlotRouter
from engine.endpoint import Endpoint
from engine.errors import EngineError, InternalError, TargetLinkLost
from engine.replay.held_commands import (
    HeldPiece,
    left_of,
    pieces_left,
    run_of,
    taken_twice,
    transaction_piece,
)
from engine.replay.margin import LAG_SECONDS
from engine.replay.owed import Key
from engine.replay.renewals import keys_in_doubt
from engine.replay.shard_lanes import MOVING, Mark, ShardLanes
from engine.stats import LineStats
from engine.target.slot_link import PartBlock

log = structlog.get_logger("engine.replay")

HELD_BYTES = 16 * 1024 * 1024
FIRST_WAIT_SECONDS = 0.005
LONGEST_WAIT_SECONDS = 0.2
TELL_SECONDS = 5.0
_ASKING = encode("ASKING")
_MULTI = encode("MULTI")


@dataclass(slots=True)
class _Held:
    """pieces: what is left to send; a transaction is one piece. text: the last reply that turned one away."""

    slot: int
    pieces: list[HeldPiece]
    is_transaction: bool
    offset: int
    mark: Mark
    text: str
    since: float
    next_at: float
    wait_seconds: float = FIRST_WAIT_SECONDS
    is_noted: bool = False

    @property
    def is_asked(self) -> bool:
        """Whether the next piece follows an ASK. A transaction needs key and checkpoint on one node: it does not."""
        return bool(self.pieces[0].asked_at) and not self.is_transaction

    @property
    def bytes_held(self) -> int:
        """Of all pieces."""
        return sum(len(it.data) for it in self.pieces)


class HeldSlots:
    """Those that wait.

    on_doubt: called with keys that may not be on the target as they are at the source. on_error: a node, and an error reply
    of it that has nothing to do with a move. on_settled: a slot goes on.
    """

    def __init__(
        self,
        router: SlotRouter,
        claim: ClusterClaim,
        lanes: ShardLanes,
        stats: LineStats,
        *,
        on_doubt: Callable[[set[Key]], None],
        on_error: Callable[[Endpoint, Block, int, int, str], None],
        on_settled: Callable[[], None],
        on_failed: Callable[[EngineError], None],
    ) -> None:
        self._router = router
        self._claim = claim
        self._lanes = lanes
        self._stats = stats
        self._on_doubt = on_doubt
        self._on_error = on_error
        self._on_settled = on_settled
        self._on_failed = on_failed
        self._held: dict[int, _Held] = {}
        self._held_bytes = 0
        self._told_at = 0.0
        self._more = asyncio.Event()

    # ---- what the delivery asks

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def floor(self) -> Mark | None:
        """The first block of which something waits."""
        return min((it.mark for it in self._held.values()), default=None)

    @property
    def oldest_seconds(self) -> float | None:
        """Monotonic time since when the oldest waits."""
        return min((it.since for it in self._held.values()), default=None)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more commands: the line has to wait."""
        return (
            bool(self._held) and self._held_bytes + self._router.bytes_of(HELD_QUEUE) >= HELD_BYTES
        )

    @property
    def trouble(self) -> str | None:
        """The slot that is waited for, when it has been for a while."""
        first = min(self._held.values(), key=lambda it: it.since, default=None)
        if first is None or time.monotonic() - first.since < TELL_SECONDS:
            return None
        others = f" (and {len(self._held) - 1} more)" if len(self._held) > 1 else ""
        goes_on = (
            f"the line waits: {HELD_BYTES // 1024 // 1024} MiB of commands for it are held"
            if self.is_full
            else "the other slots go on"
        )
        return f"slot {first.slot}{others} of the target is being moved and does not settle: {first.text}; {goes_on}"

    def hold(
        self, batch: SlotBatch, group: int, refusals: Sequence[tuple[int, str]], mark: Mark
    ) -> None:
        """A group was turned away: it and what comes for its slot waits."""
        slot, data, now = batch.slots[group], batch.group_data(group), time.monotonic()
        is_whole = batch.is_transaction and data.startswith(_MULTI)  # else a checkpoint alone
        text = refusals[0][1]
        held = self._held[slot] = _Held(
            slot=slot,
            pieces=[transaction_piece(data, batch.replies[group], text)]
            if is_whole
            else pieces_left(data, dict(refusals)),
            is_transaction=is_whole,
            offset=batch.offset,
            mark=mark,
            text=text,
            since=now,
            next_at=now,
        )
        if not held.is_asked:
            held.next_at += FIRST_WAIT_SECONDS
        self._held_bytes += held.bytes_held
        self._router.move(slot, HELD_QUEUE)
        self._stats.slot_waits += 1
        twice = taken_twice(held.pieces)
        if twice:
            self._on_doubt({(0, key) for key in twice})
        self._more.set()

    # ---- until each has settled

    async def run(self) -> None:
        """Try again and again; ends by being cancelled, or with `on_failed`."""
        try:
            while True:
                await self._wait()
                await self._try_due()
                self._tell()
        except EngineError as error:
            self._on_failed(error)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._on_failed(InternalError(f"slots that wait were not looked after: {error!r}"))

    async def _wait(self) -> None:
        next_at = min((it.next_at for it in self._held.values()), default=None)
        self._more.clear()
        timeout = None if next_at is None else max(next_at - time.monotonic(), 0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._more.wait()

    async def _try_due(self) -> None:
        now = time.monotonic()
        due = [it for it in self._held.values() if it.next_at <= now]
        if not due:
            return
        for it in self._held.values():
            if not it.is_noted and now - it.since > LAG_SECONDS:
                it.is_noted = True
                self._on_doubt(keys_in_doubt(b"".join(piece.data for piece in it.pieces)))
        if any(it.pieces[0].text and not it.is_asked for it in due):
            await self.refresh()
        ways: dict[tuple[str, bool], tuple[Endpoint, list[_Held]]] = {}
        for it in due:
            endpoint, is_asking = self._way(it)
            ways.setdefault((endpoint.address, is_asking), (endpoint, []))[1].append(it)
        await asyncio.gather(
            *(
                self._send(endpoint, some, is_asking)
                for (_, is_asking), (endpoint, some) in ways.items()
            )
        )

    async def refresh(self, silent: Sequence[str] = ()) -> None:
        """Ask for the map and go by it; nodes that are `silent` are asked last.

        Raises:
            TargetLinkLost: a primary was replaced. TargetNotReady, TargetUnreachable: as ClusterClaim.refresh.
        """
        self._claim.silent.update(silent)
        before = self._claim.map
        if await self._claim.refresh():
            self._stats.topology_changes += 1
            if failed_over(before, self._claim.map):
                raise TargetLinkLost("a primary of the target cluster was replaced by another")
            self._lanes.apply_map()

    def _way(self, held: _Held) -> tuple[Endpoint, bool]:
        """Where to send its next pieces."""
        lane = self._lanes.lane_of(held.slot)
        if not held.is_asked:
            return lane.endpoint, False
        host, port = place_in_redirection(held.pieces[0].text, lane.endpoint.host)
        return self._claim.endpoint_at(host, port), True

    async def _send(self, endpoint: Endpoint, some: list[_Held], is_asking: bool) -> None:
        link = await self._lanes.link_to(endpoint)
        runs = [run_of(it.pieces) for it in some]
        sent = [(held, piece) for held, run in zip(some, runs, strict=True) for piece in run]
        data = b"".join((_ASKING if is_asking else b"") + piece.data for _, piece in sent)
        ends: list[int] = []
        total = 0
        for _, piece in sent:
            total += piece.replies + is_asking
            ends.append(total)
        part = PartBlock(data=data, replies=total, offset=some[0].offset)
        await link.deliver(part)
        refused: dict[int, str] = {}
        at = 0
        for reply, element, text in part.errors:
            while reply >= ends[at]:
                at += 1
            held, piece = sent[at]
            if text.startswith(MOVING):
                refused.setdefault(at, text)
            elif at not in refused:
                block = Block(
                    data=piece.data,
                    replies=piece.replies,
                    offset=held.offset,
                    is_transaction=held.is_transaction,
                )
                begins = ends[at] - piece.replies
                self._on_error(endpoint, block, reply - begins, element, text)
        first = 0
        for held, run in zip(some, runs, strict=True):
            own = {n: refused[first + n] for n in range(len(run)) if first + n in refused}
            first += len(run)
            self._keep(
                held, [*left_of(run, own), *held.pieces[len(run) :]], own, was_asked=is_asking
            )

    def _keep(
        self, held: _Held, left: list[HeldPiece], refused: Mapping[int, str], *, was_asked: bool
    ) -> None:
        """Go on with what is `left`: at once if something was taken or another node was told, else after a while."""
        has_moved_on = len(left) < len(held.pieces)
        self._held_bytes -= held.bytes_held
        held.pieces = left
        if not left:
            self._release(held)
            return
        self._held_bytes += held.bytes_held
        held.text = next(iter(refused.values()), held.text)
        held.next_at = time.monotonic()
        if has_moved_on:
            held.wait_seconds = FIRST_WAIT_SECONDS
        elif was_asked or not held.is_asked:
            held.next_at += held.wait_seconds
            held.wait_seconds = min(held.wait_seconds * 2, LONGEST_WAIT_SECONDS)

    def _release(self, held: _Held) -> None:
        lane, slot = self._lanes.lane_of(held.slot), held.slot
        behind = self._router.slot_data(slot)
        if behind and time.monotonic() - held.since > LAG_SECONDS:
            self._on_doubt(keys_in_doubt(behind))
        del self._held[slot]
        self._router.move(slot, lane.number)
        if behind:
            lane.note(held.mark)
        if not self._held or self._router.bytes_of(HELD_QUEUE) >= HELD_BYTES:
            self._router.compact(HELD_QUEUE)
        self._on_settled()

    def _tell(self) -> None:
        text, now = self.trouble, time.monotonic()
        if text is not None and now - self._told_at > TELL_SECONDS:
            self._told_at = now
            log.warning("slot.waits", slots=sorted(self._held)[:20], why=text)
