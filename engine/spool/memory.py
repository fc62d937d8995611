"""The queue between the replica link and the replay: bytes in order, bounded, with back-pressure.

The link puts what it reads; at the upper mark it is told to stop reading, at the lower one to go on. The
snapshot's bytes come first, then the stream's. Each chunk keeps the moment it was received, because relative
times in the stream count from then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

# A wait longer than this has seen the event loop look at its sockets at least once.
POLL_SECONDS = 0.002


class Section(Enum):
    """What a chunk is part of."""

    SNAPSHOT = auto()
    STREAM = auto()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they were read. received_seconds: monotonic; received_ms: wall clock since the epoch.

    is_late: they may have waited at the source before they were sent.
    """

    section: Section
    data: bytes
    received_seconds: float
    received_ms: int
    is_late: bool = False


class MemorySpool:
    """Bounded queue of chunks. pause, resume: called as the bytes held cross the marks."""

    def __init__(
        self, *, memory_bytes: int, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._high = memory_bytes
        self._low = memory_bytes // 2
        self._pause = pause
        self._resume = resume
        self._chunks: deque[Chunk] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._is_ended = False
        self._is_paused = False
        self._busy_from = 0.0
        self._busy_until = 0.0
        self.held_bytes = 0
        self.pauses = 0
        self.peak_bytes = 0

    def put(self, chunk: Chunk) -> None:
        """Add a chunk; never blocks. The bound is kept by `pause`, so it may be passed by one read.

        What comes after the end is dropped.
        """
        if self._is_ended:
            return
        self._chunks.append(chunk)
        self.held_bytes += len(chunk.data)
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        if not self._is_paused and self.held_bytes >= self._high:
            self._is_paused = True
            self.pauses += 1
            self._pause()
        self.wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more will be put. `get` hands out what is left, then raises `error` (or returns None)."""
        if not self._is_ended:
            self._is_ended = True
            self._error = error
        self.wake()

    def delay_bound_seconds(self, now: float, heard_at: float) -> float:
        """How long bytes that are read at `now` may have waited because this process was busy.

        heard_at: monotonic time of the read before. A reader that was waiting here all the while leaves the
        event loop free, so bytes are then taken as they come.
        """
        if self._waiter is None:
            return now - heard_at
        return now - self._busy_from if now - self._busy_until < POLL_SECONDS else 0.0

    @property
    def is_empty(self) -> bool:
        """Whether `get` would have to wait."""
        return not self._chunks

    @property
    def oldest_received_seconds(self) -> float | None:
        """Monotonic time when the oldest bytes held were received; None if there are none."""
        return self._chunks[0].received_seconds if self._chunks else None

    def get_now(self) -> Chunk | None:
        """The next chunk if one is there."""
        if not self._chunks:
            return None
        chunk = self._chunks.popleft()
        self.held_bytes -= len(chunk.data)
        if self._is_paused and self.held_bytes <= self._low:
            self._is_paused = False
            self._resume()
        return chunk

    def discard(self) -> None:
        """Drop what is held and end: for a graceful stop, the source still has it."""
        self._chunks.clear()
        self.held_bytes = 0
        self.end()

    def wake(self) -> None:
        """Let `wait` return so that its caller looks at the world again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> bool:
        """Wait for a chunk or a `wake` (True) or the end (False).

        Raises the error given to `end` once everything has been taken.
        """
        if self._chunks:
            return True
        if not self._is_ended:
            self._waiter = asyncio.get_running_loop().create_future()
            self._busy_until = time.monotonic()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._busy_from = time.monotonic()
        if not self._is_ended or self._chunks:
            return True
        if self._error is not None:
            raise self._error
        return False
