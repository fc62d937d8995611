"""The chunks in memory around the reader: some it has read, then those it reads next."""

from __future__ import annotations

from collections import deque

from engine.spool.chunk import Chunk, Section


class Window:
    """tail: read, kept for a rewind (stream only). unread: next to be read; a snapshot's come first.

    The two are one contiguous run. read_bytes: what the tail holds. The spool moves chunks from one to the
    other itself, because that is its hot path.
    """

    def __init__(self) -> None:
        self.tail: deque[Chunk] = deque()
        self.unread: deque[Chunk] = deque()
        self.read_bytes = 0

    @property
    def first_stream_chunk(self) -> Chunk | None:
        """The oldest chunk of the stream here."""
        if self.tail:
            return self.tail[0]
        return next((it for it in self.unread if it.section is Section.STREAM), None)

    def trim(self, offset: int) -> int:
        """Drop what was read and lies wholly at or before `offset`; return the bytes freed."""
        tail, freed = self.tail, 0
        while tail and tail[0].offset + len(tail[0].data) <= offset:
            freed += len(tail.popleft().data)
        self.read_bytes -= freed
        return freed

    def limit_chunks(self, count: int, offset: int) -> None:
        """Drop what was read first until `count` chunks of it are left, but nothing behind `offset`."""
        tail, freed = self.tail, 0
        while len(tail) > count and tail[0].end_offset <= offset:
            freed += len(tail.popleft().data)
        self.read_bytes -= freed

    def shrink(self, to_bytes: int, before: int | None = None) -> int:
        """Drop what was read first until `to_bytes` of it are left, but nothing behind the offset `before`.

        Return the bytes freed.
        """
        tail, freed = self.tail, 0
        while tail and self.read_bytes - freed > to_bytes:
            if before is not None and tail[0].end_offset > before:
                break
            freed += len(tail.popleft().data)
        self.read_bytes -= freed
        return freed

    def move_to(self, offset: int) -> None:
        """Let the next chunk be the one behind `offset`, which lies in here; cut one if need be."""
        tail, unread = self.tail, self.unread
        while tail and tail[-1].offset >= offset:
            unread.appendleft(tail.pop())
        if tail and tail[-1].end_offset > offset:
            before, behind = tail.pop().split(offset)
            tail.append(before)
            unread.appendleft(behind)
        while unread and unread[0].end_offset <= offset:
            tail.append(unread.popleft())
        if unread and unread[0].offset < offset:
            before, behind = unread.popleft().split(offset)
            tail.append(before)
            unread.appendleft(behind)
        self.read_bytes = sum(len(it.data) for it in tail)

    def stream_behind(self, offset: int) -> list[Chunk]:
        """The stream's chunks that have bytes behind `offset`, oldest first."""
        return [
            it
            for chunks in (self.tail, self.unread)
            for it in chunks
            if it.section is Section.STREAM and it.end_offset > offset
        ]

    def clear(self) -> None:
        """Drop all."""
        self.tail.clear()
        self.unread.clear()
        self.read_bytes = 0
