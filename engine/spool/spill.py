"""What the spool does while it holds more than fits into memory.

A chunk is then in one or two of three places, each a contiguous run, in this order:

    window       around the reader, in memory (window.py)
    disk         written; the part of it that is behind the window is read from the files when it is due
    late         come in, neither written nor in the window

When the reader has caught up with the files, what comes in goes into the window as well as to the disk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import SpoolDamaged
from engine.settings import MIB, SpoolSettings
from engine.spool.chunk import Chunk, Section
from engine.spool.disk import Disk, DiskEvents
from engine.spool.files import ReadRecord
from engine.spool.history import History
from engine.spool.segment_queue import Place, Segment
from engine.spool.window import Window

READ_AHEAD_BYTES = 2 * MIB
MIN_BLOCK_BYTES = 256


class Spill:
    """Keeps `window` filled from disk, and the disk from what comes in.

    is_on: whether there may be more than the window; else nothing here is in use but released files.
    ahead_bytes: unread bytes of the window. late_bytes: see the module. on_change: called when chunks or
    room may have come. on_damage: called when the files cannot be read back.
    """

    def __init__(
        self,
        folder: Path,
        settings: SpoolSettings,
        *,
        run_name: str,
        window: Window,
        history: History,
        on_change: Callable[[], None],
        on_damage: Callable[[SpoolDamaged], None],
    ) -> None:
        self._window = window
        self._history = history
        self._on_change = on_change
        self._on_damage = on_damage
        self._low = settings.memory_bytes // 2
        self._read_ahead_bytes = min(READ_AHEAD_BYTES, settings.memory_bytes // 4)
        self._late: deque[Chunk] = deque()
        self._window_end = (Section.STREAM, 0)
        self._clock_seconds = 0.0  # monotonic minus wall clock
        self.disk = Disk(
            folder,
            budget_bytes=settings.disk_bytes,
            segment_bytes=settings.segment_bytes,
            block_bytes=max(MIN_BLOCK_BYTES, settings.memory_bytes // 8),
            run_name=run_name,
            history=history,
            events=DiskEvents(
                on_written=self._note_written, on_read=self._note_read, on_blocked=on_change
            ),
        )
        self.is_on = False
        self.ahead_bytes = 0
        self.late_bytes = 0

    # ---- what is there

    @property
    def has_more(self) -> bool:
        """Whether anything unread is behind the window."""
        return self.is_on and (bool(self._late) or not self.disk.is_read)

    @property
    def window_end(self) -> tuple[Section, int]:
        """Section and offset of the window's last byte, while `is_on`."""
        return self._window_end

    @property
    def late_offset(self) -> int | None:
        """Stream offset at which `late` begins; None if it is empty or of the snapshot."""
        if self._late and self._late[0].section is Section.STREAM:
            return self._late[0].offset
        return None

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that nothing more should come in."""
        return self.disk.blocked is not None or self.late_bytes >= self._low

    @property
    def has_room(self) -> bool:
        """Whether more may come in again."""
        return self.disk.blocked is None and self.late_bytes <= self._low // 2

    # ---- going to disk and back

    def start(self, released: int, window_end: tuple[Section, int], ahead_bytes: int) -> None:
        """From now on what is unreleased goes to disk; the window holds all there is."""
        on_disk = self.disk.queue.end_offset
        behind = released if on_disk is None else on_disk
        self.is_on = True
        self._window_end = window_end
        self.ahead_bytes = ahead_bytes
        self.disk.set_unwritten(self._window.stream_behind(behind))
        self.disk.skip_to(self.disk.queue.end)

    def start_recovered(self, segments: Sequence[Segment]) -> None:
        """Take an earlier run's files; the window is empty and begins where they do."""
        queue = self.disk.queue
        for segment in segments:
            queue.add(segment)
        self.is_on = True
        self._clock_seconds = time.monotonic() - time.time()
        self._window_end = (Section.STREAM, segments[0].header.base_offset)
        queue.seek(segments[0].header.base_offset)

    def stop(self) -> None:
        """The window holds all that is unread; what is on disk is removed as it is released."""
        self.is_on = False
        self.late_bytes = self.ahead_bytes = 0
        self._late.clear()
        self.disk.stop_writing()

    def drop(self) -> None:
        """Forget all, remove the files."""
        self.disk.drop()
        self.stop()

    # ---- chunks coming and going

    def add(self, chunk: Chunk) -> None:
        """Take a chunk that has come in."""
        self.disk.add_unwritten(chunk)
        size = len(chunk.data)
        self._clock_seconds = chunk.received_seconds - chunk.received_ms / 1000
        if not self._late and self.ahead_bytes + size <= self._low and self.disk.is_read:
            self._append(chunk)
        else:
            self._late.append(chunk)
            self.late_bytes += size

    def _append(self, chunk: Chunk) -> None:
        self._window.unread.append(chunk)
        self.ahead_bytes += len(chunk.data)
        self._window_end = (chunk.section, chunk.end_offset)

    def take(self, size: int) -> None:
        """`size` bytes of the window have been read; see that more come in time."""
        self.ahead_bytes -= size
        if self.ahead_bytes < self._read_ahead_bytes:
            self.refill()

    def refill(self) -> None:
        """Fill the window from what comes next: files, then what is not written."""
        if not self.disk.is_read:
            self.disk.read_more()
        elif self._late:
            for chunk in self._late:
                self._append(chunk)
            self._late.clear()
            self.late_bytes = 0

    def move_to_late(self, offset: int) -> None:
        """Start the window anew with `late`, at the stream offset `offset` that lies in there."""
        self._window.clear()
        self.disk.skip_to(self.disk.queue.end)
        self.ahead_bytes = 0
        self.refill()
        self._window.move_to(offset)
        self.ahead_bytes -= self._window.read_bytes

    def move_to_disk(self, offset: int) -> None:
        """Start the window anew at the stream offset `offset`, which is on disk."""
        if not self.is_on:
            self.start(offset, self._window_end, 0)
        self._late = self.disk.unwritten.copy()
        self.late_bytes = sum(len(it.data) for it in self._late)
        self._window.clear()
        self._window_end = (Section.STREAM, offset)
        self.ahead_bytes = 0
        self.disk.seek(offset)

    # ---- results of the disk

    def _note_written(self, count: int, start: Place, end: Place) -> None:
        """The oldest `count` unwritten chunks are on disk. Those of `late` are only there from now on."""
        in_window = len(self.disk.unwritten) + count - len(self._late)
        if count and in_window >= count:
            self.disk.skip_to(end)
        elif in_window > 0:
            self.disk.skip_to(start)  # the part that the window has is skipped when it is read
        for _ in range(count - in_window):
            self.late_bytes -= len(self._late.popleft().data)
        self._on_change()

    def _note_read(
        self, section: Section, records: Sequence[ReadRecord], error: SpoolDamaged | None
    ) -> None:
        for record in records:
            error = error or self._take_record(section, record)
        if error is not None:
            self._on_damage(error)
            return
        self._on_change()

    def _take_record(self, section: Section, record: ReadRecord) -> SpoolDamaged | None:
        """Put a record behind the window, without what the window has already."""
        data, offset = record.data, record.offset
        window_section, window_offset = self._window_end
        if section is window_section:
            if offset > window_offset:
                return SpoolDamaged(
                    "the spool's files do not hold all of the stream",
                    detail=f"offset {offset} follows {window_offset}",
                )
            if offset + len(data) <= window_offset:
                return None
            data, offset = data[window_offset - offset :], window_offset
        elif section is Section.SNAPSHOT:
            return None
        is_stream = section is Section.STREAM
        history = self._history
        seconds = record.received_ms / 1000 + self._clock_seconds
        self._append(
            Chunk(
                section,
                data,
                min(seconds, time.monotonic()),
                record.received_ms,
                record.is_late,
                offset=offset,
                generation=history.generation_at(offset) if is_stream else history.first_generation,
            )
        )
        return None
