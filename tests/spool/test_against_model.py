"""Random lives of a spool against a plain model: what was put comes out, wherever it has been meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.errors import SpoolDamaged
from engine.position import Position
from engine.spool.chunk import Section
from engine.spool.disk import BLOCKS_LATE
from engine.spool.segment import MAX_HISTORIES
from engine.spool.spool import Spool
from tests.spool.streams import content, files_of, next_chunk, put, put_stream, settle, small

LINE = "0"


class StepwiseExecutor(Executor):
    """Does the disk's work when it is told to, so that a life can be lived again exactly."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.jobs.append((future, lambda: fn(*args, **kwargs)))
        return future

    def step(self) -> None:
        if self.jobs:
            future, work = self.jobs.popleft()
            try:
                future.set_result(work())
            except (OSError, SpoolDamaged) as error:
                future.set_exception(error)


class SpoolLife(RuleBasedStateMachine):
    """The stream's bytes are known from their offsets (streams.py), a snapshot's as well."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.runs = 0
        self.replids = 0
        self.ms = 1000
        self.directory = self.root / "0"
        self.is_reading = True
        self.spool = self.fresh_spool()
        self.begin_stream(100)

    def settings(self) -> Any:
        return small(self.directory, disk_bytes=20_000, segment_bytes=1500)

    def fresh_spool(self) -> Spool:
        self.runs += 1
        return self.opened(Spool(self.settings(), line=LINE, run_name=f"run{self.runs}"))

    def opened(self, spool: Spool) -> Spool:
        self.is_reading = True
        self.executor = spool._spill.disk._executor = StepwiseExecutor()
        spool.attach(self.pause, self.resume)
        return spool

    def pause(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work`; the disk does something only if `work` waits."""
        return self.loop.run_until_complete(self.with_disk(work))

    async def with_disk(self, work: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.ensure_future(work)
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
            assert turns < 100_000, "nothing comes of it"
            if turns % 5 == 0:
                self.executor.step()
        return task.result()

    def next_ms(self) -> int:
        self.ms += 1
        return self.ms

    def new_replid(self) -> str:
        self.replids += 1
        self.replid = f"{self.replids:040x}"
        self.replid_has_data = False
        return self.replid

    def begin_stream(self, offset: int, asked: Position | None = None) -> None:
        async def begin() -> None:
            self.spool.begin_stream(Position(self.new_replid(), offset), asked=asked)
            assert self.spool.held_bytes == 0

        self.run(begin())
        self.read = self.released = self.end = self.start = offset
        self.snapshot_read = self.snapshot_end = 0
        self.in_snapshot = False
        self.promotions = 0

    # ---- the link

    @precondition(lambda self: self.is_reading)
    @rule(sizes=st.lists(st.integers(0, 400), min_size=1, max_size=8), ms=st.none() | st.just(5))
    def receive(self, sizes: list[int], ms: int | None) -> None:
        async def receive() -> None:
            for size in sizes:
                if not self.is_reading:
                    break
                put_stream(self.spool, size, ms=self.next_ms() if ms is None else ms)
                self.end += size
                self.replid_has_data = True
                self.in_snapshot = False

        self.run(receive())

    @precondition(lambda self: self.is_reading and self.in_snapshot)
    @rule(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=8))
    def receive_snapshot(self, sizes: list[int]) -> None:
        async def receive() -> None:
            for size in sizes:
                if not self.is_reading:
                    break
                put(
                    self.spool,
                    Section.SNAPSHOT,
                    content(self.snapshot_end, size),
                    ms=self.next_ms(),
                )
                self.snapshot_end += size

        self.run(receive())

    @rule(ahead=st.integers(0, 3000))
    def resync_fully(self, ahead: int) -> None:
        async def begin() -> None:
            self.spool.begin_snapshot(Position(self.new_replid(), self.end + ahead))
            assert self.spool.held_bytes == 0

        self.run(begin())
        self.read = self.released = self.end = self.start = self.end + ahead
        self.snapshot_read = self.snapshot_end = 0
        self.in_snapshot = True
        self.promotions = 0

    @precondition(lambda self: not self.in_snapshot)
    @rule(is_promoted=st.booleans())
    def go_on_with_another_link(self, is_promoted: bool) -> None:
        old, generation = self.replid, self.spool.first_generation
        if is_promoted:
            self.new_replid()
            self.promotions += 1
        self.spool.end()
        self.spool.reopen()
        self.spool.begin_stream(Position(self.replid, self.end))
        assert self.spool.position == Position(self.replid, self.end)
        assert self.spool.first_generation == generation
        if self.snapshot_is_read:
            assert self.spool.covers(Position(old, self.end))
            assert self.spool.covers(Position(self.replid, self.end))

    # ---- the replay

    @property
    def snapshot_is_read(self) -> bool:
        return not self.in_snapshot and self.snapshot_read == self.snapshot_end

    @rule(count=st.integers(1, 12))
    def replay(self, count: int) -> None:
        async def replay() -> None:
            for _ in range(count):
                if not self.spool.held_bytes:
                    break
                chunk = await next_chunk(self.spool)
                if chunk.section is Section.SNAPSHOT:
                    assert chunk.offset == self.snapshot_read
                    assert chunk.data == content(chunk.offset, len(chunk.data))
                    self.snapshot_read += len(chunk.data)
                else:
                    assert self.snapshot_is_read
                    assert chunk.offset == self.read
                    assert chunk.data == content(chunk.offset, len(chunk.data))
                    self.read += len(chunk.data)
                assert chunk.generation >= self.spool.first_generation

        self.run(replay())

    @precondition(lambda self: self.snapshot_is_read)
    @rule(share=st.floats(0, 1))
    def confirm(self, share: float) -> None:
        async def confirm() -> None:
            self.spool.release(self.released)

        self.released += int((self.read - self.released) * share)
        self.run(confirm())

    @rule(share=st.floats(0, 1), behind=st.integers(0, 3000))
    def rewind(self, share: float, behind: int) -> None:
        async def rewind() -> bool:
            return self.spool.rewind(offset)

        offset = max(0, self.released - behind) + int(
            (self.end - max(0, self.released - behind)) * share
        )
        must = self.snapshot_is_read and self.released <= offset
        may = self.snapshot_is_read and self.start <= offset
        is_held = self.snapshot_is_read and self.spool.start_offset <= offset
        assert self.spool.covers(Position(self.replid, offset)) in {is_held, False}
        did = self.run(rewind())
        assert did == is_held
        assert may or not did
        assert did or not must
        if did:
            self.read = self.released = offset

    # ---- the disk and the process

    @rule(steps=st.integers(1, 4))
    def let_the_disk_work(self, steps: int) -> None:
        async def work() -> None:
            for _ in range(steps):
                self.executor.step()
                for _ in range(5):
                    await asyncio.sleep(0)

        self.run(work())

    @rule()
    def let_the_disk_finish(self) -> None:
        self.run(settle(self.spool))

    @rule(is_orderly=st.booleans(), settles=st.booleans())
    def die_and_recover(self, is_orderly: bool, settles: bool) -> None:
        async def stop() -> None:
            if is_orderly:
                self.spool.end()
                await self.spool.persist()
            elif settles:
                await settle(self.spool)

        checkpoint = Position(self.spool.replid_at(self.released), self.released)
        self.run(stop())
        is_blocked = self.spool._spill.disk.blocked is not None
        is_whole = (is_orderly or (settles and self.spool._is_spilling)) and not is_blocked
        files_start = self.spool._spill.disk.queue.start_offset
        if files_start is not None and files_start > self.released:
            is_whole = False  # went back into the tail (see Spool.rewind)
        image = self.root / f"{self.runs + 1}"
        if self.directory.exists():
            shutil.copytree(self.directory, image)
        self.run(self.spool.close())
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = image
        self.runs += 1
        if is_orderly and (not self.snapshot_is_read or self.released == self.end):
            assert files_of(image) == []
        spool = self.spool = Spool.recover(self.settings(), LINE, f"run{self.runs}")
        self.opened(spool)
        if not self.snapshot_is_read or not spool.covers(checkpoint):
            is_told = self.replid_has_data or is_orderly or checkpoint.replid != self.replid
            unreleased = self.snapshot_is_read and self.released < self.end
            is_told = is_told and self.promotions < MAX_HISTORIES
            assert not (is_whole and is_told and unreleased)
            self.begin_stream(self.released, asked=checkpoint)
            return
        assert spool.start_offset <= self.released
        assert spool.end_offset == self.end or (spool.end_offset < self.end and not is_whole)
        assert spool.recovered_bytes == spool.held_bytes == spool.end_offset - spool.start_offset
        self.replid, self.replid_has_data = spool.position.replid, True
        self.end = spool.end_offset
        self.start = spool.start_offset
        self.snapshot_end = self.snapshot_read = 0
        assert self.run(self.rewound(self.released))
        self.read = self.released

    async def rewound(self, offset: int) -> bool:
        return self.spool.rewind(offset)

    # ---- always

    @invariant()
    def figures_agree(self) -> None:
        spool = self.spool
        unread = self.end - self.read + self.snapshot_end - self.snapshot_read
        assert spool.held_bytes == unread
        assert spool.end_offset == self.end
        if self.snapshot_is_read:
            assert spool.read_offset == self.read
            files_start = spool._spill.disk.queue.start_offset
            if files_start is None or files_start <= self.released:  # else see Spool.rewind
                assert spool.start_offset <= self.released
            assert spool.covers(Position(spool.replid_at(self.read), self.read))
        window = spool._window
        late = spool._spill._late
        in_memory = sum(len(it.data) for it in (*window.tail, *window.unread, *late))
        assert spool.memory_bytes_held == in_memory
        assert spool.memory_bytes_held <= 1000 + 300 + 1000 + 4 * 700
        unwritten = spool._spill.disk.unwritten
        held = {id(it): it for it in (*window.tail, *window.unread, *late, *unwritten)}
        beside = sum(len(it.data) for it in held.values()) - in_memory
        assert spool._spill.disk.unwritten_bytes == sum(len(it.data) for it in unwritten)
        assert beside <= BLOCKS_LATE * 256 + 256 + 700  # also when the disk does nothing
        assert (spool.blocked is not None) == (not self.is_reading)
        if not spool._is_spilling:
            assert in_memory >= unread

    def teardown(self) -> None:
        self.run(self.spool.close())
        self.loop.close()
        shutil.rmtree(self.root, ignore_errors=True)


TestSpoolLife = SpoolLife.TestCase
TestSpoolLife.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
