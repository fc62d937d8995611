"""The spool's part on disk, seen from the event loop.

Reads and writes run in one thread (files.py), one after the other; this side decides what they are
(batch.py, segment_queue.py) and takes their results.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from engine.errors import SpoolDamaged
from engine.spool.batch import BLOCK_BYTES, Batch, Batching
from engine.spool.chunk import Chunk, Section
from engine.spool.files import ReadRecord, SegmentFiles, Written
from engine.spool.history import History
from engine.spool.segment_queue import Place, Segment, SegmentQueue

log = structlog.get_logger("engine.spool")

RECORD_BYTES = 64 * 1024  # small chunks are joined up to this
RETRY_SECONDS = 1.0
BLOCKS_LATE = 4  # so many unwritten ones that need not be written any more are forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskEvents:
    """What the spool hears of.

    on_written: so many of the oldest unwritten chunks are on disk now, from the first place to the second.
    on_read: the records that stood behind the cursor, or none and the error. on_blocked: `blocked` changed, or something can be written again.
    """

    on_written: Callable[[int, Place, Place], None]
    on_read: Callable[[Section, Sequence[ReadRecord], SpoolDamaged | None], None]
    on_blocked: Callable[[], None]


class Disk:
    """Files in order, and `unwritten`, which comes behind them.

    unwritten_bytes: in `unwritten`. blocked: why nothing can be written, None while it can. spilled_bytes: written ever.
    """

    def __init__(
        self,
        folder: Path,
        *,
        budget_bytes: int,
        segment_bytes: int,
        block_bytes: int,
        run_name: str,
        history: History,
        events: DiskEvents,
    ) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._block_bytes = min(block_bytes, BLOCK_BYTES)
        self._batching = Batching(
            history,
            segment_bytes=segment_bytes,
            budget_bytes=budget_bytes,
            block_bytes=self._block_bytes,
        )
        self._events = events
        self._files = SegmentFiles(
            folder, run_name, record_bytes=min(RECORD_BYTES, self._block_bytes)
        )
        self._executor: Executor | None = None
        self._jobs: set[asyncio.Future[Any]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._write_job: asyncio.Future[Written] | None = None
        self._writing: list[Chunk] = []  # the oldest of `unwritten`
        self._is_abandoned = False  # what is written is of no use any more
        self._read_job: asyncio.Future[tuple[list[ReadRecord], int]] | None = None
        self._has_active = False  # the queue's last file is the one being written
        self._is_closed = False
        self.queue = SegmentQueue()
        self.unwritten: deque[Chunk] = deque()
        self.unwritten_bytes = 0
        self.blocked: str | None = None
        self.spilled_bytes = 0

    @property
    def is_writing(self) -> bool:
        """Whether a write is under way."""
        return self._write_job is not None

    @property
    def is_read(self) -> bool:
        """Whether nothing on disk is left to be read."""
        return self._read_job is None and self.queue.next_to_read() is None

    # ---- writing

    def set_unwritten(self, chunks: Iterable[Chunk]) -> None:
        """Have these written next, and no others."""
        self.unwritten = deque(chunks)
        self.unwritten_bytes = sum(len(it.data) for it in self.unwritten)

    def add_unwritten(self, chunk: Chunk) -> None:
        """Have this one written behind the others."""
        self.unwritten.append(chunk)
        self.unwritten_bytes += len(chunk.data)

    def write_more(self, *, snapshot_is_unread: bool) -> None:
        """Write the next of `unwritten`, unless that is under way or must wait.

        snapshot_is_unread: the stream to be written is of no use by itself. A file of the snapshot before it
        says so after a crash, an empty one if need be. Nor is the snapshot, so all of it waits until there is a block: a
        call of the thread for each chunk costs more than the writing.
        """
        if not self.unwritten or self.is_writing or self._retry is not None or self._is_closed:
            return
        if snapshot_is_unread and self.unwritten_bytes < self._block_bytes:
            return
        queue, first = self.queue, self.unwritten[0]
        if first.section is Section.STREAM and snapshot_is_unread and not queue.has_snapshot:
            header = self._batching.new_header(Section.SNAPSHOT, 0, first.generation)
            batch: Batch | None = Batch(header)
        else:
            active = queue.segments[-1] if self._has_active else None
            batch = self._batching.next_batch(self.unwritten, first, active, queue.used_bytes)
        if batch is not None:
            self._write(batch)
            return
        self._set_blocked(
            f"spool full: {shown_bytes(queue.used_bytes)} of {shown_bytes(self._budget_bytes)} on disk"
        )

    def write_mark(self, offset: int, generation: int) -> None:
        """Begin a file at the stream's end for what its header says: a replid that nothing has come under yet."""
        if not self.is_writing and self._retry is None and not self._is_closed:
            self._write(Batch(self._batching.new_header(Section.STREAM, offset, generation)))

    def _write(self, batch: Batch) -> None:
        job = self._run(self._files.write, batch.header, batch.chunks)
        self._write_job, self._writing = job, batch.chunks
        job.add_done_callback(partial(self._note_written, batch))

    def _note_written(self, batch: Batch, job: asyncio.Future[Written]) -> None:
        error = None if job.cancelled() else job.exception()
        if job.cancelled() or job is not self._write_job:
            return  # dropped meanwhile
        self._write_job, self._writing = None, []
        if self._is_abandoned:
            self._is_abandoned = False
            self._events.on_blocked()
            return
        if isinstance(error, OSError):
            self._note_failure(error)
            return
        written = job.result()  # another error is a bug of ours
        if batch.header is not None:
            header = batch.header
            self.queue.add(
                Segment(written.path, header, 0, header.base_offset, header.created_ms, index=[])
            )
            self._has_active = True
        start = self.queue.grow(batch.chunks, written.start, written.end)
        for _ in batch.chunks:
            size = len(self.unwritten.popleft().data)
            self.unwritten_bytes -= size
            self.spilled_bytes += size
        self._set_blocked(None, tell=False)
        self._events.on_written(len(batch.chunks), start, self.queue.end)

    def _note_failure(self, error: OSError) -> None:
        self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._try_again)
        why = error.strerror or str(error)
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        self._set_blocked(f"disk {'full' if is_full else 'failed'}: {why} ({self._folder})")

    def _try_again(self) -> None:
        self._end_retry()
        self._events.on_blocked()

    def _end_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _set_blocked(self, why: str | None, *, tell: bool = True) -> None:
        if why == self.blocked:
            return
        was, self.blocked = self.blocked, why
        if why is None:
            log.info("spool.writes_again", was=was)
        else:
            event = "spool.full" if why.startswith("spool full") else "spool.disk_failed"
            log.warning(event, why=why, folder=str(self._folder))
        if tell:
            self._events.on_blocked()

    def stop_writing(self) -> None:
        """What is unwritten stays in memory only."""
        self.set_unwritten(())
        self._end_retry()
        self._set_blocked(None)

    # ---- reading

    def read_more(self) -> None:
        """Read the records behind the cursor, unless that is under way or there are none."""
        if self._read_job is not None or self._is_closed:
            return
        segment = self.queue.next_to_read()
        if segment is None:
            return
        at = self.queue.cursor.at
        job = self._run(self._files.read, segment.path, at, self._block_bytes, segment.size_bytes)
        self._read_job = job
        job.add_done_callback(partial(self._note_read, segment))

    def _note_read(
        self, segment: Segment, job: asyncio.Future[tuple[list[ReadRecord], int]]
    ) -> None:
        error = None if job.cancelled() else job.exception()
        if job.cancelled() or job is not self._read_job:
            return  # the reader went elsewhere
        self._read_job = None
        if isinstance(error, SpoolDamaged):
            self._events.on_read(segment.header.section, (), error)
            return
        records, at = job.result()
        self.queue.cursor = Place(segment.number, at)
        self._events.on_read(segment.header.section, records, None)

    def seek(self, offset: int) -> None:
        """The next read starts at or a little before the stream offset `offset`."""
        self._read_job = None
        self.queue.seek(offset)

    def skip_to(self, place: Place) -> None:
        """What is on disk before `place` is not to be read."""
        self._read_job = None
        self.queue.cursor = place

    # ---- removal and the end

    def release(self, offset: int, *, snapshot_is_read: bool, keep_active: bool) -> None:
        """Remove the files that end at or before the stream offset `offset`, and those of a snapshot read.

        keep_active: the file being written stays as long as there is room for another.
        """
        queue = self.queue
        if not queue.segments:
            return
        is_active_stream = self._has_active and queue.segments[-1].is_stream
        keep_last = self.is_writing or (keep_active and is_active_stream and self.blocked is None)
        taken = queue.take_released(offset, snapshot_is_read=snapshot_is_read, keep_last=keep_last)
        if not taken:
            return
        if not queue.segments:
            self._has_active = False
        self._run(
            partial(self._files.remove, with_folder=not queue.segments), [it.path for it in taken]
        )
        if self.blocked is not None:
            self._try_again()

    def forget_done(self, is_done: Callable[[Chunk], bool]) -> None:
        """Let go of what waits to be written and need not be any more, with all files before it: nobody reads them again.

        Where the disk is slower than the target it would pile up in memory. A write under way ends, and its file goes.
        """
        if self.unwritten_bytes <= BLOCKS_LATE * self._block_bytes:
            return
        if not is_done(self._writing[-1] if self._writing else self.unwritten[0]):
            return
        while self.unwritten and is_done(self.unwritten[0]):
            self.unwritten_bytes -= len(self.unwritten.popleft().data)
        self._is_abandoned, self._writing = self.is_writing, []
        self._read_job = None
        self._has_active = False
        segments = self.queue.clear()
        if segments or self.is_writing:
            self._run(self._files.remove_own, [it.path for it in segments])
        if self.blocked is not None:
            self._try_again()

    def drop(self) -> None:
        """Remove all files; what is under way is of no use any more."""
        was_writing = self.is_writing
        segments = self._forget()
        if segments or was_writing:
            self._run(self._files.remove_own, [it.path for it in segments])
        self.stop_writing()

    def _forget(self) -> list[Segment]:
        self._write_job = self._read_job = None
        self._writing, self._is_abandoned = [], False
        self._has_active = False
        return self.queue.clear()

    def delete(self) -> None:
        """Remove every run's files and the folders that are empty then. Waits for the thread."""
        self._forget()
        work = partial(self._files.remove_all, with_parent=True)
        if self._executor is None:
            work()
        else:
            self._executor.submit(work).result()

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._jobs:
            await asyncio.wait(set(self._jobs))

    async def close(self) -> None:
        """Finish what is under way, end the thread; the files stay."""
        self._is_closed = True
        self._end_retry()
        await self.idle()
        if self._executor is not None:
            await self._run(self._files.close)
            self._executor.shutdown()
            self._executor = None

    def _run(self, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="spool")
        job = asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job


def shown_bytes(count: int) -> str:
    """`count` in the largest binary unit that it fills: "16.0 GiB"."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
