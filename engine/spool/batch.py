"""What the next write to disk is. Pure: decided from what waits, the file being written, and the budget."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.spool.chunk import Chunk, Section
from engine.spool.history import History
from engine.spool.segment import RECORD_HEADER_BYTES, SegmentHeader
from engine.spool.segment_queue import Segment

BLOCK_BYTES = 1024 * 1024  # one write or read, at most
SEGMENTS_IN_BUDGET = 4  # room comes back a file at a time


@dataclass(slots=True)
class Batch:
    """One write: chunks of one section and generation for one file, a new one if there is a header."""

    header: SegmentHeader | None
    chunks: list[Chunk] = field(default_factory=list)


class Batching:
    """Cuts what is unwritten into batches. block_bytes: most that a batch of several chunks has."""

    def __init__(
        self, history: History, *, segment_bytes: int, budget_bytes: int, block_bytes: int
    ) -> None:
        self._history = history
        self._segment_bytes = max(1, min(segment_bytes, budget_bytes // SEGMENTS_IN_BUDGET))
        self._budget_bytes = budget_bytes
        self._block_bytes = block_bytes

    def next_batch(
        self, unwritten: Iterable[Chunk], first: Chunk, active: Segment | None, used_bytes: int
    ) -> Batch | None:
        """The batch that starts with `first`, the first of `unwritten`; None if it exceeds the budget."""
        size = RECORD_HEADER_BYTES + len(first.data)
        room = self._room_in(active, first)
        batch = Batch(None)
        budget = self._budget_bytes - used_bytes
        if room is None or (room < size and active is not None and active.index):
            batch.header = self.new_header(first.section, first.offset, first.generation)
            room = self._segment_bytes - batch.header.encoded_bytes
            budget -= batch.header.encoded_bytes
        if size > budget:
            return None
        room = min(room, budget, self._block_bytes)
        total = 0
        for chunk in unwritten:
            total += RECORD_HEADER_BYTES + len(chunk.data)
            is_alike = chunk.section is first.section and chunk.generation == first.generation
            if batch.chunks and (total > room or not is_alike):
                break
            batch.chunks.append(chunk)
        return batch

    def _room_in(self, active: Segment | None, first: Chunk) -> int | None:
        """Bytes that the file still takes; None if it cannot take `first` at all."""
        if active is None or active.header.section is not first.section:
            return None
        known = self._history.known_to(first.generation)
        if known[-1][0] != active.header.histories[-1][0]:
            return None  # a new replid is told in a header
        return self._segment_bytes - active.size_bytes

    def new_header(self, section: Section, base_offset: int, generation: int) -> SegmentHeader:
        """A header for a file that begins now."""
        known = self._history.known_to(generation)
        return SegmentHeader(section, base_offset, int(time.time() * 1000), known)
