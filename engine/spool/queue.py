"""The queue between the replica link and the replay: memory first, then disk.

It lives as long as its line, over many source links and target sessions, and its files outlive the process.
Put, get and their like are called in the event loop and never wait; the disk has a thread of its own.

    released      the target has confirmed the stream up to here; the files begin here or before
    read          handed to the reader
    end           received

What lies between `released` and `read` is kept for a target that loses its connection, and `tail_bytes` before
it for one that loses its last writes. Nothing is written while the unread bytes fit into `memory_bytes`. Beyond
that everything from `released` on is written (spill.py), so that after a crash the files serve the stream from
the target's checkpoint, until the reader has caught up.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.position import Position
from engine.spool.chunk import Chunk, Section
from engine.spool.held import Held

MANY_CHUNKS = 512  # unread: the reader is far behind
JOINED_BYTES = 16 * 1024


class SpoolQueue(Held):
    """The writer's and the reader's side of one line's spool (spool.py). `begin_snapshot` or `begin_stream` comes before the first `put`.

    line, run_name: letters, digits and `._-`; parts of the folder's and the files' names. Two processes that
    share a folder must have different run names.
    """

    # ---- the writer's side

    def attach(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Control this link from now on; `pause` is called at once if it must not read."""
        self._gate.attach(pause, resume)

    def begin_snapshot(self, position: Position) -> None:
        """A full resync: drop everything held. The stream will start at `position`."""
        self._drop()
        self._begin(position)
        self._stream_began = False

    def begin_stream(self, position: Position, *, asked: Position | None = None) -> None:
        """The next byte of the stream is the one behind `position`.

        The spool goes on if it ends there, maybe under a new replid; else everything held is dropped. asked:
        what PSYNC asked for, if that was not the spool's own `position` but a checkpoint. The same offset
        in another history is then no reason to go on.
        """
        is_ours = asked is None or self._history.is_valid(asked)
        if self._stream_began and is_ours and position.offset == self.end_offset:
            self._generation += 1
            self._history.go_on(position, self._generation)
            return
        self._drop()
        self._begin(position)
        self._stream_began = True

    def _begin(self, position: Position) -> None:
        self._generation += 1
        self.first_generation = self._generation
        self._history.start(position, self._generation)
        self._has_begun = True
        self._stream_start = self._released = self.end_offset = position.offset
        self._snapshot_end = 0

    def put(
        self,
        section: Section,
        data: bytes,
        *,
        received_seconds: float,
        received_ms: int,
        is_late: bool = False,
    ) -> None:
        """Add bytes; never blocks. Bounds are kept by pausing the link, so they may be passed by one read.

        What comes after the end is dropped.
        """
        if self._is_ended:
            return
        size = len(data)
        if section is Section.STREAM:
            offset = self.end_offset
            self.end_offset = offset + size
            if not self._stream_began:
                self._stream_began = True
                self._release_files()
        else:
            offset = self._snapshot_end
            self._snapshot_end = offset + size
            self._snapshot_unread_bytes += size
        chunk = Chunk(
            section,
            data,
            received_seconds,
            received_ms,
            is_late,
            offset,
            self._generation,
        )
        self.held_bytes = held_bytes = self.held_bytes + size
        if self._is_spilling:
            self._put_spilling(chunk)
        else:
            unread = self._unread
            if len(unread) < MANY_CHUNKS or not self._join(unread[-1], chunk):
                unread.append(chunk)
            memory_bytes = held_bytes + self._window.read_bytes
            if memory_bytes > self.peak_memory_bytes:  # noqa: PLR1730 - twice as fast as max()
                self.peak_memory_bytes = memory_bytes
            if held_bytes >= self._high:
                self._fill_up()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _join(self, last: Chunk, chunk: Chunk) -> bool:
        """Join a chunk to the last one if they are small and alike: the reader is far behind, and each takes room.

        The moment at which they came is then known less well, so they count as late.
        """
        if (
            len(last.data) + len(chunk.data) > JOINED_BYTES
            or last.section is not chunk.section
            or last.generation != chunk.generation
        ):
            return False
        self._unread[-1] = last._replace(data=last.data + chunk.data, is_late=True)
        return True

    # ---- the reader's side

    @property
    def is_empty(self) -> bool:
        """Whether `get_now` has nothing at this moment: also while the disk is being read."""
        return not self._unread

    @property
    def oldest_received_seconds(self) -> float | None:
        """Monotonic time when the oldest unread bytes were received; None if there are none.

        Bytes on disk count as old as those read before them.
        """
        if self._unread:
            return self._unread[0].received_seconds
        return self._oldest_seconds if self.held_bytes else None

    def get_now(self) -> Chunk | None:
        """The next chunk if one is there."""
        unread = self._unread
        if not unread:
            if not self._is_spilling:
                return None
            self._refill()
            if not unread:
                return None
        chunk = unread.popleft()
        size = len(chunk.data)
        self.held_bytes -= size
        is_stream = chunk.section is Section.STREAM
        if is_stream:
            window = self._window
            self._tail.append(chunk)
            window.read_bytes += size
        else:
            self._snapshot_unread_bytes -= size
            if not self._has_unread_snapshot:
                self._release_files()
                self._note_change()  # the stream behind it is worth writing now
        if self._is_attentive:
            self._note_taken(chunk)
        if is_stream and window.read_bytes > self._read_cap:
            self._limit_tail()
        return chunk

    async def wait(self) -> bool:
        """Wait for a chunk or a `wake` (True) or the end (False).

        Raises the error given to `end` once everything has been taken, SpoolDamaged if the files cannot be
        read back.
        """
        if self._is_spilling:
            self._refill()
        if self._unread:
            return True
        if not self._is_ended or self._has_more:
            await self._wait_for_wake()
        if not self._is_ended or self._has_more:
            return True
        if self._error is not None:
            raise self._error
        return False

    @property
    def _has_more(self) -> bool:
        return bool(self._unread) or (self._spill is not None and self._spill.has_more)

    def rewind(self, offset: int) -> bool:
        """Let the next chunk begin right behind the stream offset `offset`, which the target has.

        Back or forward; `offset` counts as released from now on. False, and nothing changes, if that place is
        not held. The tail before the released offset is in memory only: going back into it while there are
        files, these do not reach back to the checkpoint until it has passed their start again. A crash in between needs the
        source's backlog, and so does another loss when more than memory has room for was read meanwhile.
        """
        if not self._has_begun or self._has_unread_snapshot:
            return False
        if not self.start_offset <= offset <= self.end_offset:
            return False
        window_end, spill = self.end_offset, self._spill
        if spill is not None and self._is_spilling:
            section, window_end = spill.window_end
            if section is Section.SNAPSHOT:
                window_end = self._stream_start
        first = self._window.first_stream_chunk
        window_start = window_end if first is None else first.offset
        self._released = offset
        self.held_bytes = self.end_offset - offset
        if window_start <= offset <= window_end:
            self._window.move_to(offset)
            if spill is not None and self._is_spilling:
                spill.ahead_bytes = window_end - offset
        elif spill is not None and (late := spill.late_offset) is not None and late <= offset:
            spill.move_to_late(offset)
        else:
            assert spill is not None
            spill.move_to_disk(offset)
            self._is_spilling = self._is_attentive = True
        if not self._is_spilling and self.held_bytes >= self._high:
            self._fill_up()
        self._note_change()
        return True

    def release(self, offset: int) -> None:
        """The target has confirmed the stream up to `offset`: what is more than `tail_bytes` before it may go."""
        if offset <= self._released:
            return
        self._released = min(offset, self.read_offset)
        self._window.trim(self._released - self._settings.tail_bytes)
        if len(self._tail) > self._tail_chunks:
            self._window.limit_chunks(self._tail_chunks, self._released)
        self._history.forget_before(self.start_offset)
        self._release_files()
        if self._is_spilling:
            self._note_change()

    def covers(self, position: Position) -> bool:
        """Whether the stream behind `position` is held, of the very history that `position` names."""
        return (
            self._has_begun
            and not self._has_unread_snapshot
            and self.start_offset <= position.offset <= self.end_offset
            and self._history.is_valid(position)
        )
