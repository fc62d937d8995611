"""What a spool holds, and its going to disk and back (spill.py). The queue's two sides are in queue.py."""

from __future__ import annotations

import structlog

from engine.errors import SpoolDamaged
from engine.position import Position
from engine.settings import SpoolSettings
from engine.spool.chunk import OVERHEAD_BYTES, Chunk, Section
from engine.spool.gate import Gate
from engine.spool.history import History
from engine.spool.recovery import line_folder
from engine.spool.spill import Spill
from engine.spool.waiting import Waiting
from engine.spool.window import Window

log = structlog.get_logger("engine.spool")

FEWEST_TAIL_CHUNKS = 1024


class Held(Waiting):
    """The state of a spool.

    held_bytes: unread. peak_memory_bytes: most that was in memory at once. recovered_bytes: taken over from
    an earlier run. first_generation: of what is held; it rises when something new has replaced all that
    was held, and not when another link goes on with the same stream.
    """

    def __init__(self, settings: SpoolSettings, *, line: str, run_name: str) -> None:
        super().__init__()
        self._settings = settings
        self._high = settings.memory_bytes
        self._low = settings.memory_bytes // 2
        self._read_cap = settings.memory_bytes + settings.tail_bytes
        # A tail of small chunks takes no more than twice its bytes.
        self._tail_chunks = max(FEWEST_TAIL_CHUNKS, settings.tail_bytes // OVERHEAD_BYTES)
        self._window = Window()
        self._unread = self._window.unread
        self._tail = self._window.tail
        self._history = History()
        self._gate = Gate()
        self._spill: Spill | None = None
        if settings.directory is not None and settings.disk_bytes > 0:
            self._spill = Spill(
                line_folder(settings.directory, line, run_name),
                settings,
                run_name=run_name,
                window=self._window,
                history=self._history,
                on_change=self._note_change,
                on_damage=self._note_damage,
            )
        self._is_spilling = False
        self._is_persisting = False
        self._is_attentive = (
            False  # reading has consequences: the gate is shut, or the disk is in use
        )
        self._generation = 0
        self._has_begun = False
        self._stream_began = False  # the snapshot before it has come in completely
        self._stream_start = 0
        self._snapshot_end = 0
        self._snapshot_unread_bytes = 0
        self._released = 0
        self._oldest_seconds = 0.0
        self.end_offset = 0
        self.first_generation = 0
        self.held_bytes = 0
        self.peak_memory_bytes = 0
        self.recovered_bytes = 0

    # ---- what is held

    @property
    def position(self) -> Position | None:
        """The newest byte received: PSYNC goes on behind it. None without a stream to go on with."""
        if not self._has_begun or not self._stream_began:
            return None
        return Position(self._history.replid, self.end_offset)

    def replid_at(self, offset: int) -> str:
        """The replid for a checkpoint at the stream offset `offset`, which is held."""
        return self._history.replid_at(offset)

    @property
    def start_offset(self) -> int:
        """The stream is held from behind this offset on."""
        spill = self._spill
        starts = [self.end_offset]
        if (first := self._window.first_stream_chunk) is not None:
            starts.append(first.offset)
        if spill is not None:
            starts += [
                it for it in (spill.disk.queue.start_offset, spill.late_offset) if it is not None
            ]
        return min(starts)

    @property
    def read_offset(self) -> int:
        """Stream offset of the last byte handed to the reader."""
        section, offset = Section.STREAM, self.end_offset
        if self._unread:
            section, offset = self._unread[0].section, self._unread[0].offset
        elif self._spill is not None and self._is_spilling:
            section, offset = self._spill.window_end
        return offset if section is Section.STREAM else self._stream_start

    @property
    def _has_unread_snapshot(self) -> bool:
        return not self._stream_began or self._snapshot_unread_bytes > 0

    @property
    def memory_bytes_held(self) -> int:
        """Bytes in memory: unread, and read but kept."""
        unread_bytes = self.held_bytes
        if self._spill is not None and self._is_spilling:
            unread_bytes = self._spill.ahead_bytes + self._spill.late_bytes
        return unread_bytes + self._window.read_bytes

    # ---- between memory and disk

    def _fill_up(self) -> None:
        """The unread bytes in memory have reached the mark."""
        if self._spill is None:
            self._gate.shut()
            self._is_attentive = True
        else:
            self._start_spilling()

    def _start_spilling(self) -> None:
        assert self._spill is not None
        if self._stream_began:
            window_end = (Section.STREAM, self.end_offset)
        else:
            window_end = (Section.SNAPSHOT, self._snapshot_end)
        self._spill.start(self._released, window_end, self.held_bytes)
        self._is_spilling = self._is_attentive = True
        log.info("spool.spilling", held_bytes=self.held_bytes, offset=self.end_offset)
        self._note_change()

    def _put_spilling(self, chunk: Chunk) -> None:
        assert self._spill is not None
        self._spill.add(chunk)
        if not self._spill.disk.is_writing or self._spill.is_behind or self._is_memory_full:
            self._note_change()  # else the end of the write does it

    def _note_taken(self, chunk: Chunk) -> None:
        """A chunk was read while the gate is shut or the disk is in use."""
        if self._spill is not None and self._is_spilling:
            self._oldest_seconds = chunk.received_seconds
            self._spill.take(len(chunk.data))
            is_writing = self._spill.disk.is_writing
            if self._gate.is_shut or (self.held_bytes <= self._low and not is_writing):
                self._note_change()
        elif self.held_bytes <= self._low:
            self._open_gate()

    def _open_gate(self) -> None:
        self._is_attentive = self._is_spilling
        self._gate.open()

    def _refill(self) -> None:
        if self._spill is not None:
            self._spill.refill()

    def _note_change(self) -> None:
        """Bytes have come, gone, or been written or read: do what follows from it."""
        spill = self._spill
        if spill is None or not self._is_spilling:
            if self._gate.is_shut and self.held_bytes <= self._low:
                self._open_gate()
            return
        self._release_files()
        if not self._is_spilling:
            return  # that made the room
        spill.disk.forget_done(self._is_done)
        if not self._is_spilling:
            return
        spill.take(0)
        if self._has_caught_up(spill):
            self._stop_spilling(spill)
        else:
            spill.disk.write_more(snapshot_is_unread=self._has_unread_snapshot)
            if self._window.read_bytes > self._read_cap:
                self._limit_tail()
            # What is read and not confirmed stays in memory until it is written.
            if spill.is_behind or self._is_memory_full:
                self._gate.shut()
            elif spill.has_room:
                self._gate.open()
        self.peak_memory_bytes = max(self.peak_memory_bytes, self.memory_bytes_held)
        if self._unread or (self._is_ended and not spill.has_more):
            self.wake()

    def _has_caught_up(self, spill: Spill) -> bool:
        """Whether memory can hold all that is not released.

        Also when nothing can be written and nothing is unread: the link must go on, or the end of what the
        target waits for (a transaction of the source) never comes. Then the files are given up.
        """
        if self._is_persisting or spill.disk.is_writing or self.held_bytes > self._low:
            return False
        if spill.has_more:
            return False
        if self.read_offset - self._released <= self._high:
            return True
        return spill.disk.blocked is not None and not self._unread

    def _stop_spilling(self, spill: Spill) -> None:
        self._is_spilling = False
        if self.read_offset - self._released > self._high:
            log.warning("spool.given_up", why=spill.disk.blocked, from_offset=self._released)
            spill.drop()
            self._window.shrink(self._settings.tail_bytes + self._low)
        else:
            spill.stop()
            log.info("spool.drained", spilled_bytes=spill.disk.spilled_bytes)
        self._open_gate()
        self._release_files()

    @property
    def _is_memory_full(self) -> bool:
        return self.memory_bytes_held >= self._read_cap + self._low

    def _limit_tail(self) -> None:
        """More is kept of what was read than memory has room for."""
        spill, window = self._spill, self._window
        if spill is None:
            window.shrink(self._read_cap)
            return
        is_spilling = self._is_spilling
        on_disk = spill.disk.queue.end_offset if is_spilling else None
        window.shrink(self._read_cap, before=max(self._released, on_disk or 0))
        if not is_spilling and window.read_bytes > self._read_cap:
            self._start_spilling()

    def _is_done(self, chunk: Chunk) -> bool:
        """Whether nobody needs a chunk again: of the stream the target has it, of a snapshot the reader."""
        if chunk.section is Section.STREAM:
            return chunk.end_offset <= self._released
        return chunk.end_offset <= self._snapshot_end - self._snapshot_unread_bytes

    def _release_files(self) -> None:
        if self._spill is not None:
            self._spill.disk.release(
                self._released,
                snapshot_is_read=not self._has_unread_snapshot,
                keep_active=self._is_spilling,
            )

    def _drop(self) -> None:
        """Forget all that is held."""
        self._is_spilling = False
        self._window.clear()
        if self._spill is not None:
            self._spill.drop()
        self._history.clear()
        self._has_begun = self._stream_began = False
        self.held_bytes = self._snapshot_unread_bytes = 0
        self._open_gate()

    def _note_damage(self, error: SpoolDamaged) -> None:
        log.error("spool.damaged", why=str(error))
        self._drop()
        self._is_ended = True
        self._error = error
        self.wake()
