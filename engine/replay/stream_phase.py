"""The stream phase: command chunks from the spool, transactions with their checkpoint to the target."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.codec.plan import StreamPlan
from engine.codec.stream import StreamTranscoder
from engine.replay.delivery import Delivery
from engine.replay.late_expiry import KEYS_AT_ONCE, Correction, LateExpiry
from engine.spool.memory import MemorySpool

# Blocks that are not full go out at once while fewer than this many are unanswered; then they fill up.
PARTIAL_BLOCKS_INFLIGHT = 4


class StreamPhase:
    """Replays until `is_done` says so or the spool ends.

    owed_expiries: keys that the line before this one could not give their true expiry any more.
    getack_offset: stream offset behind the newest REPLCONF GETACK, -1 before the first. db: selected at the
    source at the last offset taken.
    """

    def __init__(
        self,
        spool: MemorySpool,
        delivery: Delivery,
        plan: StreamPlan,
        *,
        is_done: Callable[[], bool],
        late_expiry: LateExpiry,
        is_late: Callable[[], bool],
        owed_expiries: set[tuple[int, bytes]],
    ) -> None:
        self._spool = spool
        self._delivery = delivery
        self._transcoder = StreamTranscoder(plan)
        self._transcoder.add_late_keys(owed_expiries)
        self._is_done = is_done
        self._late_expiry = late_expiry
        self._is_late = is_late
        self._asked_keys: list[tuple[int, bytes]] = []
        self._correction: Correction | None = None
        self._received_seconds = time.monotonic()

    @property
    def getack_offset(self) -> int:
        """See the class."""
        return self._transcoder.getack_offset

    @property
    def flushes(self) -> int:
        """FLUSHALL and FLUSHDB passed on to the target."""
        return self._transcoder.flushes

    @property
    def db(self) -> int:
        """See the class."""
        return self._transcoder.db

    @property
    def owes_corrections(self) -> bool:
        """Whether keys are in the target with an expiry that is still to be put right (see late_expiry.py)."""
        return bool(self._asked_keys or self._transcoder.late_keys)

    @property
    def owed_expiries(self) -> set[tuple[int, bytes]]:
        """The keys concerned, (db, key) each."""
        return self._transcoder.late_keys.union(self._asked_keys)

    @property
    def is_at_boundary(self) -> bool:
        """Whether everything taken has been sent: no transaction of the source is half read."""
        return not self._transcoder.in_transaction

    async def run(self) -> None:
        """Replay; then send what is whole and wait until the target has confirmed it.

        Raises:
            SourceProtocolError, and what ended either link.
        """
        while not self._is_done():
            if await self._apply_corrections():
                continue
            if await self._take_chunk() or await self._flush_partial():
                continue
            self._note_offset()
            if self._is_done() or not await self._spool.wait():
                break
        if self.is_at_boundary:
            await self._send_open_block()
            self._note_offset()
        await self._delivery.drain()

    async def _take_chunk(self) -> bool:
        chunk = self._spool.get_now()
        if chunk is None:
            return False
        transcoder = self._transcoder
        if not transcoder.has_open_block:
            self._received_seconds = chunk.received_seconds
        transcoder.feed(chunk.data, chunk.received_ms, chunk.is_late)
        await self._send_full_blocks(chunk.received_seconds)
        return True

    async def _send_full_blocks(self, received_seconds: float) -> None:
        while (block := self._transcoder.next_block(False)) is not None:
            await self._delivery.send(block, self._received_seconds)
            self._received_seconds = received_seconds

    async def _send_open_block(self) -> None:
        block = self._transcoder.next_block(True)
        if block is not None:
            await self._delivery.send(block, self._received_seconds)

    async def _flush_partial(self) -> bool:
        transcoder = self._transcoder
        if not transcoder.has_open_block or transcoder.in_transaction:
            return False
        await self._delivery.link.wait_for_fewer(PARTIAL_BLOCKS_INFLIGHT)
        if self._spool.is_empty:
            await self._send_open_block()
        return True

    async def _apply_corrections(self) -> bool:
        """One step of giving late keys their true expiry; True if something was done.

        First the source is asked, then the stream goes on up to the offset of the answer and no further, then
        the correction goes out, then the rest.
        """
        transcoder = self._transcoder
        correction = self._correction
        if correction is None:
            if not transcoder.late_keys or self._is_late() or not self.is_at_boundary:
                return False
            self._asked_keys = transcoder.take_late_keys(KEYS_AT_ONCE)
            self._correction = await self._late_expiry.ask(self._asked_keys)
            if self._correction is None:  # the source does not say: these stay as they are
                self._asked_keys = []
                transcoder.release_late_keys()
                return False
            transcoder.pause_at = self._correction.offset
            return True
        if transcoder.offset < correction.offset or not self.is_at_boundary:
            return False
        await self._send_open_block()
        await self._delivery.send(correction.block, time.monotonic())
        await self._delivery.drain()  # not sent again by anyone: owed until the target has it
        self._correction = None
        self._asked_keys = []
        transcoder.pause_at = -1
        transcoder.release_late_keys()
        await self._send_full_blocks(time.monotonic())
        return True

    def _note_offset(self) -> None:
        """Offsets also move by PING and GETACK."""
        if not self._transcoder.has_open_block and self.is_at_boundary:
            self._delivery.note_offset(self._transcoder.offset, self._transcoder.db)
