"""The snapshot phase: RDB chunks from the spool, blocks to the target."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.key_recorder import KeyRecorder
from engine.codec.name_owners import NameOwners
from engine.codec.plan import SnapshotPlan
from engine.codec.selected_snapshot import SelectedSnapshotTranscoder
from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import CorruptRdb, EngineError, TargetNotReady, TargetRejected
from engine.replay.big_values import BigValueSteps, adds_to_stream
from engine.replay.delivery import Delivery
from engine.replay.margin import Margin
from engine.replay.refused_keys import RefusedKeys
from engine.spool.chunk import Chunk, Section
from engine.spool.spool import Spool
from engine.stats import LineStats


class SnapshotEnd(Enum):
    """How a stay in the snapshot phase ended, when no error ended it."""

    APPLIED = auto()  # the target has confirmed all of it
    STOPPED = auto()
    REPLACED = auto()  # the source has begun another snapshot


class SnapshotPhase:
    """One snapshot, over as many stays at the target as it takes.

    generation: the spool's number of this snapshot. target_run_id: the process that has what was confirmed; a
    connection lost to it costs only what was on its way, which is sent again (RESTORE … REPLACE). is_in_doubt: except that
    sending it again would not mend it: another snapshot is needed.
    """

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        spool: Spool,
        plan: SnapshotPlan,
        stats: LineStats,
        *,
        generation: int,
        target_run_id: str,
        is_stopping: Callable[[], bool],
        recorder: KeyRecorder | None,
        refused_keys: RefusedKeys,
        margin: Margin,
        owners: NameOwners | None = None,
    ) -> None:
        self._spool = spool
        self._stats = stats
        self._refused_keys = refused_keys
        self._margin = margin
        self._skips_refused = plan.skips_refused
        self._is_stopping = is_stopping
        self._generation = generation
        self._to_send_again: deque[Block] = deque()
        self._current: Block | None = None
        self.target_run_id = target_run_id
        self._selected = (
            None if plan.selection.is_everything else SelectedSnapshotTranscoder(plan, owners)
        )
        self.transcoder = self._selected or SnapshotTranscoder(plan)
        self.transcoder.recorder = recorder
        self._steps = BigValueSteps(self.transcoder, stats)
        self.is_in_doubt = False

    async def run(self, delivery: Delivery) -> SnapshotEnd:
        """Apply the rest of the RDB.

        Raises:
            CorruptRdb, UnsupportedByTarget, and what ended the target's link; after the latter it may be run again
            with another delivery to the same process.
        """
        try:
            end = await self._run(delivery)
            if end is not SnapshotEnd.APPLIED:
                await self._steps.give_up(delivery)
            # Whatever comes next on this connection counts on database 0.
            await delivery.send_own(Block(data=encode("SELECT", 0), replies=1))
            return end  # noqa: TRY300 - sending it may fail like the rest
        except EngineError as error:
            if delivery.is_open:
                await self._steps.give_up(delivery)
            begun = [it for it in delivery.unconfirmed if it.replies]
            if isinstance(error, TargetNotReady) and adds_to_stream(begun):
                self.is_in_doubt = True
            current = [] if self._current is None else [self._current]
            # What an earlier loss left and this link did not get to is still to be sent.
            self._to_send_again = deque(dict.fromkeys((*begun, *self._to_send_again, *current)))
            self._current = None
            if isinstance(error, TargetRejected):
                raise self._steps.named(error) from error
            raise

    def _note_unloadable(self, db: int, command: list[bytes]) -> None:
        key = command[1] if len(command) > 1 else b""
        self._refused_keys.add(
            [(db, key, "value", "the target cannot load it: it may lack a module")]
        )

    async def _run(self, delivery: Delivery) -> SnapshotEnd:
        if self._skips_refused:
            delivery.link.on_unloadable = self._note_unloadable
        self._steps.watch(delivery.link)
        self._steps.is_repeated = bool(self._to_send_again)
        while self._to_send_again:
            block = self._to_send_again[0]
            block.skipped = 0
            await self._send(delivery, block, time.monotonic())
            self._to_send_again.popleft()
        transcoder, stats = self.transcoder, self._stats
        while not transcoder.is_finished:
            if self._is_stopping():
                return SnapshotEnd.STOPPED
            delivery.raise_error()
            await self._send_blocks(delivery, self._spool.is_empty)
            if transcoder.is_finished:
                break
            if self._spool.first_generation != self._generation:
                return SnapshotEnd.REPLACED
            chunk = self._spool.get_now()
            if chunk is None:
                if not await self._spool.wait():
                    return SnapshotEnd.STOPPED
                continue
            self._take(chunk)
            await self._send_blocks(delivery, False)
            stats.snapshot_bytes_read = transcoder.bytes_read
            stats.keys_expected = transcoder.keys_expected
        await self._send_blocks(delivery, True)
        if transcoder.bytes_left_over:
            raise CorruptRdb(
                f"{transcoder.bytes_left_over} bytes lie between the snapshot's end and the stream",
                offset=transcoder.bytes_read,
            )
        await delivery.drain()
        stats.not_carried = {**transcoder.not_carried, **transcoder.bridge.fell_away}
        self._refused_keys.tell()
        return SnapshotEnd.APPLIED

    def _take(self, chunk: Chunk) -> None:
        if chunk.section is Section.STREAM:
            self.transcoder.finish()
        self.transcoder.horizon_ms = self._margin.horizon_ms()
        self.transcoder.feed(chunk.data)

    async def _send(self, delivery: Delivery, block: Block, received_seconds: float) -> None:
        if block.is_alone:
            await self._steps.send(delivery, block, received_seconds)
        else:
            await delivery.send(block, received_seconds)

    async def _send_blocks(self, delivery: Delivery, flush: bool) -> None:
        received_seconds = self._spool.oldest_received_seconds or time.monotonic()
        while (block := self.transcoder.next_block(flush)) is not None:
            self._current = block
            await self._send(delivery, block, received_seconds)
            self._current = None
        self._refused_keys.add(self.transcoder.refused)
        self._stats.bridged = self.transcoder.bridged
        if self._selected is not None:
            self._stats.keys_filtered = self._selected.keys_filtered
            self._stats.commands_filtered = self._selected.commands_filtered
        self._stats.big_values = self.transcoder.big_values
