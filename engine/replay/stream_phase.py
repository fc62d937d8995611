"""The stream phase: command chunks from the spool, transactions with their checkpoint to the target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from engine.background import end_tasks
from engine.codec.block import Block
from engine.codec.foreign_stream import ForeignStreamTranscoder
from engine.codec.key_recorder import KeyRecorder
from engine.codec.plan import StreamPlan
from engine.codec.stream import StreamTranscoder
from engine.codec.stream_selector import StreamSelector
from engine.errors import SourceRefused
from engine.position import Position
from engine.replay.left_out import LeftOut
from engine.replay.margin import LAG_SECONDS, Margin, is_behind
from engine.replay.refused_keys import RefusedKeys
from engine.replay.resolving import Resolving
from engine.replay.settling import Settling
from engine.replay.slow_blocks import SlowBlocks
from engine.replay.target_session import TargetSession
from engine.spool.spool import Spool

# Blocks that are not full go out at once while fewer than this many are unanswered; then they fill up.
PARTIAL_BLOCKS_INFLIGHT = 4
# How often the checkpoint is written where the blocks do not carry it.
CHECKPOINT_SECONDS = 1.0


class StreamEnd(Enum):
    """How a stay in the stream phase ended, when no error ended it."""

    STOPPED = auto()
    REPLACED = (
        auto()
    )  # the source has begun a snapshot: another history, or a place it no longer has


class StreamPhase:
    """Replays one stay at the target.

    is_done: whether to stop now. is_late: whether what comes from the source now may have waited there.
    margin: how expiries are put off while the target is behind; None: they are not. flush: does what FLUSHALL (-1) and
    FLUSHDB of a database of the source, at that offset, mean for the target; None: the commands are passed on. selector:
    of a task that does not take everything along as it is. resolving: brings the values of keys in doubt, where there
    can be some.
    """

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        spool: Spool,
        session: TargetSession,
        plan: StreamPlan,
        *,
        is_done: Callable[[], bool],
        is_late: Callable[[], bool],
        margin: Margin | None,
        settling: Callable[[StreamTranscoder], Settling],
        recorder: KeyRecorder | None,
        refused_keys: RefusedKeys,
        flush: Callable[[int, int], Awaitable[None]] | None = None,
        resolving: Callable[[StreamTranscoder, Settling], Resolving | None] = lambda *_: None,
        selector: StreamSelector | None = None,
    ) -> None:
        self._spool = spool
        self._session = session
        self._delivery = session.delivery
        self.replid = plan.replid
        self._generation = self._chunk_generation = spool.first_generation
        self._is_done = is_done
        self._is_late = is_late
        self._margin = margin
        make = StreamTranscoder if plan.support is None else ForeignStreamTranscoder
        self.transcoder = make(plan)
        self._left_out = LeftOut(plan, self.transcoder, selector, refused_keys)
        self.transcoder.recorder = recorder
        self._flush = flush
        self.transcoder.holds_flushes = flush is not None
        session.note_progress(self.transcoder)
        self._settling = settling(self.transcoder)
        self._resolving = resolving(self.transcoder, self._settling)
        self._has_resolved = False  # it is the turn of expiries
        self._is_exact = False  # something in the open block has no margin
        self._slow = SlowBlocks(self._delivery, self.transcoder, self._settling)
        self._received_seconds = time.monotonic()
        self._checkpoint_at = time.monotonic()
        self._changes = 0  # flushes and swaps that a checkpoint has followed

    @property
    def is_owing(self) -> bool:
        """Whether the target holds an expiry that is not the source's, or its checkpoint says so."""
        return self._settling.is_owing or self.transcoder.margin_since_ms > 0

    @property
    def is_at_boundary(self) -> bool:
        """Whether everything taken has been sent: no transaction of the source is half read."""
        return not self.transcoder.in_transaction

    async def run(self) -> StreamEnd:
        """Replay; then send what is whole and wait until the target has confirmed it.

        Raises:
            StreamOutOfStep, and what ended either side.
        """
        self._delivery.on_block = self._slow.note_confirmed
        self._delivery.on_doubt = self._settling.note_in_doubt if self._margin is not None else None
        watching = asyncio.create_task(self._slow.watch(), name="watch-slow-blocks")
        try:
            end = await self._run()
            if self.is_at_boundary and end is StreamEnd.STOPPED:
                await self._send_open_block()
                await self._write_checkpoint(is_last=True)
                self._note_offset()
            await self._delivery.drain()
        finally:
            await end_tasks(watching)
            self._delivery.on_block = self._delivery.on_doubt = None
            self._slow.note()
            self._settling.confirm(self._delivery)
            self._settling.save()
            await self._settling.close()
            if self._resolving is not None:
                await self._resolving.close()
        return end

    async def _run(self) -> StreamEnd:
        while not self._is_done():
            self._delivery.raise_error()
            if self._spool.first_generation != self._generation:
                return StreamEnd.REPLACED
            if self.transcoder.flush_is_due:
                await self._do_flush()
                continue
            if await self._settle():
                continue
            await self._stop_at_refusal()
            if await self._take_chunk() or await self._flush_partial():
                continue
            self._note_offset()
            if self._is_done() or not await self._spool.wait():
                break
        return StreamEnd.STOPPED

    async def _take_chunk(self) -> bool:
        if self._spool.first_generation != self._generation:
            return True  # it came while we waited for something else
        chunk = self._spool.get_now()
        if chunk is None:
            return False
        transcoder = self.transcoder
        if not transcoder.has_open_block:
            self._received_seconds = chunk.received_seconds
        if chunk.generation != self._chunk_generation:
            # Another link; the history may go on under another id (PSYNC2).
            self._chunk_generation = chunk.generation
            replid = self._spool.replid_at(chunk.offset)
            if replid != self.replid:
                self._forget_answers()
            self.replid = replid
            transcoder.set_replid(self.replid)
        margin = self._margin
        if margin is not None:
            # Who waits for the target is behind as well.
            times = (chunk.received_seconds, self._delivery.link.oldest_block_seconds)
            if margin.is_own or chunk.is_late or is_behind(time.monotonic(), *times):
                transcoder.margin_ms, transcoder.horizon_ms = margin.ms, margin.horizon_ms()
                self._settling.note_behind()
            else:
                transcoder.margin_ms = 0
                self._is_exact = True
                self._settling.note_exact()
        transcoder.feed(self._left_out.selected(chunk.data), chunk.received_ms, chunk.is_late)
        await self._send_full_blocks(chunk.received_seconds)
        self._left_out.note()
        if self._left_out.wants_checkpoint():
            await self._send_open_block()
            await self._write_checkpoint(is_last=False)
            self._note_offset()
        return True

    @property
    def left_out(self) -> int:
        """Commands that the task is not to take along, in this stay."""
        return self._left_out.commands

    async def _stop_at_refusal(self) -> None:
        """What came before a command that cannot be divided is on the target; then the error it is."""
        if self._left_out.failure is not None:
            if self.is_at_boundary:
                await self._send_open_block()
            await self._delivery.drain()
            raise self._left_out.failure

    async def _do_flush(self) -> None:
        """What came before it is on the target, nothing behind it is; done again if it is cut short."""
        assert self._flush is not None
        if not self.is_at_boundary:
            raise SourceRefused(
                f"a transaction of the source with FLUSHALL or FLUSHDB ends behind offset {self.transcoder.offset}",
                detail="a flush of a part of what the target has cannot be part of a transaction",
                hint="start anew under another --task-id, with an empty target",
            )
        await self._send_open_block()
        await self._delivery.drain()
        await self._flush(self.transcoder.offset, self.transcoder.flushed_db)
        await self._delivery.drain()
        self.transcoder.flush_is_due = False
        await self._send_full_blocks(time.monotonic())

    async def _send(self, block: Block, received_seconds: float) -> None:
        self._session.serial = self.transcoder.serial
        self._session.note_progress(self.transcoder)
        self._settling.note()
        block.is_exact = self._is_exact
        self._is_exact = self._margin is not None and self.transcoder.margin_ms == 0
        # While behind, keys may be gone that the source still had.
        self._delivery.link.on_missing = (
            self._settling.note_missing if self.transcoder.verifies_keys else None
        )
        self._slow.begin(block)
        try:
            await self._delivery.send(block, received_seconds)
        finally:
            self._slow.sending = None
        if not self._session.is_exactly_once:
            now = time.monotonic()
            # A flush, or SWAPDB, takes the checkpoint away.
            changes = self.transcoder.flushes + self.transcoder.swaps
            if now - self._checkpoint_at >= CHECKPOINT_SECONDS or changes != self._changes:
                self._checkpoint_at, self._changes = now, changes
                await self._delivery.send(self._plain_checkpoint(block.offset, block.db), now)

    async def _send_own(self, block: Block) -> None:
        """A block that the session made behind everything the transcoder has given out."""
        self.transcoder.serial = self._session.serial
        await self._delivery.send(block, time.monotonic())

    def _plain_checkpoint(self, offset: int, db: int, *, is_last: bool = False) -> Block:
        session, position = self._session, Position(self.replid, offset)
        margin_since_ms = self.transcoder.margin_since_ms
        fields = session.stream_fields(position, db, margin_since_ms=margin_since_ms)
        return (
            session.last_checkpoint_block(fields) if is_last else session.checkpoint_block(fields)
        )

    async def _send_full_blocks(self, received_seconds: float) -> None:
        while (block := self.transcoder.next_block(False)) is not None:
            await self._send(block, self._received_seconds)
            self._received_seconds = received_seconds

    async def _send_open_block(self) -> None:
        block = self.transcoder.next_block(True)
        if block is not None:
            await self._send(block, self._received_seconds)

    async def _flush_partial(self) -> bool:
        transcoder = self.transcoder
        if not transcoder.has_open_block or transcoder.in_transaction:
            return False
        await self._delivery.link.wait_for_fewer(PARTIAL_BLOCKS_INFLIGHT)
        if self._spool.is_empty:
            await self._send_open_block()
        return True

    async def _write_checkpoint(self, *, is_last: bool) -> None:
        """Offsets also move by PING, GETACK and what is left out: so that a stop loses none of them."""
        transcoder = self.transcoder
        if not self._session.is_exactly_once:
            await self._send_own(
                self._plain_checkpoint(transcoder.offset, transcoder.source_db, is_last=is_last)
            )
        elif transcoder.offset != transcoder.block_offset:
            await self._send(transcoder.checkpoint_block(), time.monotonic())

    @property
    def _is_caught_up(self) -> bool:
        oldest = self._spool.oldest_received_seconds
        is_prompt = oldest is None or time.monotonic() - oldest <= LAG_SECONDS
        return is_prompt and not self._is_late()

    async def _settle(self) -> bool:
        """One step of what only the source can tell; True if something was done."""
        return await self._resolve() or await self._correct()

    def _forget_answers(self) -> None:
        self._settling.forget_answer()
        if self._resolving is not None:
            self._resolving.forget()

    async def _resolve(self) -> bool:
        """One step of bringing the values of keys in doubt."""
        resolving = self._resolving
        if resolving is None or self._settling.correction is not None:
            return False
        if resolving.is_due() and self.is_at_boundary:
            await self._send_open_block()
            commands = resolving.take_due()
            self._session.note_progress(self.transcoder)
            await self._send_own(self._session.guarded(commands))
            await self._send_full_blocks(time.monotonic())
            self._has_resolved = True
            return True
        if self._has_resolved and not resolving.has_answers:
            self._has_resolved = False
            if self._settling.is_owing and self._is_caught_up:
                return False
        return await resolving.ask()

    async def _correct(self) -> bool:
        """One step of giving expiries their true time."""
        settling = self._settling
        await self._confirm_corrections()
        if settling.correction is None:
            return await self._ask_about_expiries()
        if not settling.is_due() or not self.is_at_boundary:
            return False
        await self._send_open_block()
        block = self._session.guarded(settling.correction.commands)
        await self._send_own(block)
        settling.sent(block)
        await self._send_full_blocks(time.monotonic())
        return True

    async def _confirm_corrections(self) -> None:
        """Those that the target has are done. Not sent again by anyone: until then they are owed."""
        if self._settling.has_unconfirmed:
            if self._spool.is_empty:
                await self._delivery.drain_unless_held()
            self._settling.confirm(self._delivery)

    async def _ask_about_expiries(self) -> bool:
        settling = self._settling
        if self._resolving is not None and self._resolving.has_answers:
            return False
        inflight = self._delivery.link.blocks_inflight
        if not (self.is_at_boundary and self._is_caught_up) or settling.is_put_off(inflight):
            return False
        if settling.looks_at_target:
            # It must be where the transcoder is.
            await self._send_open_block()
            if not await self._delivery.drain_unless_held():
                return False
        if settling.is_owing:
            return await settling.ask()
        if self.transcoder.margin_since_ms:
            settling.settled()
            await self._say_settled()
            return True
        settling.forget_noted()
        return False

    async def _say_settled(self) -> None:
        """All expiries are true; a checkpoint says so even if the stream is quiet."""
        self.transcoder.margin_since_ms = 0
        if self.transcoder.has_open_block:
            await self._send_open_block()
        elif self._session.is_exactly_once:
            await self._send(self.transcoder.checkpoint_block(), time.monotonic())

    def _note_offset(self) -> None:
        """Offsets also move by PING and GETACK."""
        if not self.transcoder.has_open_block and self.is_at_boundary:
            self._delivery.note_offset(self.transcoder.offset, self.transcoder.source_db)
