"""The segments on disk in order, and the place in them where the next read starts. Pure: no file is touched."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.spool.chunk import Chunk, Section
from engine.spool.segment import SegmentHeader


@dataclass(slots=True)
class Segment:
    """A file that is in use. end_offset: of its last byte. index: some (offset, byte in the file) pairs."""

    path: Path
    header: SegmentHeader
    size_bytes: int
    end_offset: int
    last_received_ms: int
    index: list[tuple[int, int]]
    number: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether it belongs to the stream."""
        return self.header.section is Section.STREAM


@dataclass(frozen=True, slots=True)
class Place:
    """A record's place: the segment's number and the byte in its file; 0 means its first record."""

    number: int
    at: int


class SegmentQueue:
    """Segments, oldest first: the snapshot's, then the stream's. Their numbers have no gaps.

    cursor: where the next read starts. used_bytes: size of the files.
    """

    def __init__(self) -> None:
        self._next_number = 0
        self.segments: list[Segment] = []
        self.cursor = Place(0, 0)
        self.used_bytes = 0

    @property
    def start_offset(self) -> int | None:
        """Stream offset at which the files begin; None if they hold nothing of the stream."""
        return next((it.header.base_offset for it in self.segments if it.is_stream), None)

    @property
    def end_offset(self) -> int | None:
        """Stream offset of the last byte on disk; None if they hold nothing of the stream."""
        if self.segments and self.segments[-1].is_stream:
            return self.segments[-1].end_offset
        return None

    @property
    def has_snapshot(self) -> bool:
        """Whether there is a segment of the snapshot."""
        return bool(self.segments) and not self.segments[0].is_stream

    @property
    def end(self) -> Place:
        """Behind the last record."""
        if not self.segments:
            return Place(self._next_number, 0)
        return Place(self.segments[-1].number, self.segments[-1].size_bytes)

    def add(self, segment: Segment) -> None:
        """Put a file behind the others."""
        segment.number = self._next_number
        self._next_number += 1
        self.segments.append(segment)
        self.used_bytes += segment.size_bytes

    def grow(self, chunks: Sequence[Chunk], start: int, end: int) -> Place:
        """The last file now holds `chunks` from byte `start` to `end`; return their place."""
        active = self.segments[-1]
        self.used_bytes += end - active.size_bytes
        active.size_bytes = end
        if chunks:
            active.index.append((chunks[0].offset, start))
            active.end_offset = chunks[-1].end_offset
            active.last_received_ms = chunks[-1].received_ms
        return Place(active.number, start)

    def clear(self) -> list[Segment]:
        """Forget all; return what there was."""
        segments, self.segments = self.segments, []
        self.used_bytes = 0
        self.cursor = self.end
        return segments

    # ---- reading

    def next_to_read(self) -> Segment | None:
        """The segment with the first record behind the cursor, which then stands on that record."""
        if not self.segments:
            return None
        index = max(0, self.cursor.number - self.segments[0].number)
        for segment in self.segments[index:]:
            at = self.cursor.at if segment.number == self.cursor.number else 0
            at = at or segment.header.encoded_bytes
            if at < segment.size_bytes:
                self.cursor = Place(segment.number, at)
                return segment
        return None

    def seek(self, offset: int) -> None:
        """Set the cursor to a place at or a little before the stream offset `offset`, which is on disk."""
        end_offset = self.end_offset
        if end_offset is None or offset >= end_offset:
            self.cursor = self.end
            return
        segment = next(
            it for it in reversed(self.segments) if it.is_stream and it.header.base_offset <= offset
        )
        at = bisect_right(segment.index, offset, key=lambda entry: entry[0]) - 1
        self.cursor = Place(segment.number, segment.index[at][1] if at >= 0 else 0)

    # ---- removal

    def take_released(
        self, released: int, *, snapshot_is_read: bool, keep_last: bool
    ) -> list[Segment]:
        """Take out what nobody needs any more.

        That is a stream's segment that ends at or before `released`, and a snapshot's that has been read. The
        last one of a snapshot that has not been read stays: after a crash it says that the stream behind is
        of no use.
        """
        count = 0
        for segment in self.segments:
            following = self.segments[count + 1] if count + 1 < len(self.segments) else None
            if following is None and keep_last:
                break
            if segment.is_stream:
                is_free = segment.end_offset <= released
            elif snapshot_is_read:
                is_free = True
            else:
                has_been_read = self.cursor.number > segment.number
                is_free = has_been_read and following is not None and not following.is_stream
            if not is_free:
                break
            self.used_bytes -= segment.size_bytes
            count += 1
        taken, self.segments = self.segments[:count], self.segments[count:]
        return taken
