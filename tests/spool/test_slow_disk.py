"""A disk that is slower than the target: what it has not written and nobody needs any more does not fill the memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.position import Position
from engine.spool.chunk import Chunk, Section
from engine.spool.disk import BLOCKS_LATE
from engine.spool.files import SegmentFiles, Written
from engine.spool.segment import SegmentHeader
from engine.spool.spool import Spool
from tests.spool.streams import (
    REPLID,
    begun,
    content,
    files_of,
    put,
    put_stream,
    read_stream,
    settle,
    small,
)

LINE = "0"
BLOCK_BYTES = 256  # the least
MOST_UNWRITTEN = (BLOCKS_LATE + 1) * BLOCK_BYTES + 500


class Disk:
    """Its writes take until it is told that they may end."""

    def __init__(self) -> None:
        self.may_write = threading.Event()
        self.may_write.set()
        self.writes = 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    it = Disk()
    write = SegmentFiles.write

    def slow(files: SegmentFiles, header: SegmentHeader | None, chunks: list[Chunk]) -> Written:
        it.writes += 1
        assert it.may_write.wait(20)
        return write(files, header, chunks)

    monkeypatch.setattr(SegmentFiles, "write", slow)
    yield it
    it.may_write.set()


def unwritten_bytes(spool: Spool) -> int:
    return spool._spill.disk.unwritten_bytes


async def goes_by(spool: Spool, total: int, put_next: Callable[[], None]) -> int:
    """So many bytes come, are read and are confirmed while the disk does nothing; most that was unwritten."""
    most, passed = 0, 0
    while passed < total:
        put_next()
        await asyncio.sleep(0)
        chunk = spool.get_now()
        assert chunk is not None
        passed += len(chunk.data)
        if chunk.section is Section.STREAM:
            spool.release(spool.read_offset)
        most = max(most, unwritten_bytes(spool))
    return most


async def test_the_stream_that_passes_a_disk_that_hangs(tmp_path: Path, disk: Disk) -> None:
    spool, _ = begun(small(tmp_path / "task"))
    disk.may_write.clear()
    for _ in range(10):
        put_stream(spool, 100)
    assert spool._is_spilling

    most = await goes_by(spool, 50_000, lambda: put_stream(spool, 100))

    assert most <= 1000 + MOST_UNWRITTEN
    assert spool.memory_bytes_held <= 1300
    assert disk.writes == 1
    # It works again: what is not confirmed is on disk, from the checkpoint on, and nothing that was passed.
    disk.may_write.set()
    await settle(spool)
    for _ in range(20):
        put_stream(spool, 100)
        await settle(spool)
    released = spool.read_offset
    assert spool._spill.disk.queue.start_offset in range(released - 100, released + 1)
    assert spool.disk_bytes == sum(it.stat().st_size for it in files_of(tmp_path))
    await spool.close()

    recovered = Spool.recover(small(tmp_path / "task"), LINE, "next")
    assert recovered.covers(Position(REPLID, released))
    assert recovered.rewind(released)
    rest = spool.end_offset - released
    assert await read_stream(recovered, rest) == content(released, rest)
    await recovered.close()


async def test_a_write_that_ends_late_leaves_no_file(tmp_path: Path, disk: Disk) -> None:
    spool, _ = begun(small(tmp_path / "task"))
    disk.may_write.clear()
    for _ in range(10):
        put_stream(spool, 100)
    await goes_by(spool, 10_000, lambda: put_stream(spool, 100))
    while spool.held_bytes:
        spool.get_now()
    spool.release(spool.read_offset)
    assert spool._spill.disk.is_writing
    disk.may_write.set()
    await settle(spool)
    assert not spool._is_spilling
    assert not (tmp_path / "task").exists() or files_of(tmp_path) == []
    await spool.close()


async def test_the_snapshot_that_passes_a_disk_that_hangs(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(small(tmp_path / "task"), line=LINE, run_name="run")
    spool.begin_snapshot(Position(REPLID, 500))
    disk.may_write.clear()
    put_bytes = 0

    def put_next() -> None:
        nonlocal put_bytes
        put(spool, Section.SNAPSHOT, content(put_bytes, 100))
        put_bytes += 100

    for _ in range(10):
        put_next()
    assert spool._is_spilling
    assert await goes_by(spool, 50_000, put_next) <= 1000 + MOST_UNWRITTEN
    disk.may_write.set()
    await settle(spool)
    read = put_bytes - spool.held_bytes
    while spool.held_bytes:
        chunk = spool.get_now()
        if chunk is None:
            assert await spool.wait()
            continue
        assert (chunk.offset, chunk.data) == (read, content(read, len(chunk.data)))
        read += len(chunk.data)
    put_stream(spool, 100)
    assert (await read_stream(spool, 100)) == content(500, 100)
    await spool.close()


async def test_a_disk_that_keeps_up_is_written_in_whole_files(tmp_path: Path, disk: Disk) -> None:
    """Forgetting is for one that does not: files begin at what is confirmed, and each write goes on with the last."""
    spool, _ = begun(small(tmp_path / "task", segment_bytes=100_000))
    for _ in range(30):
        put_stream(spool, 100)
        await settle(spool)
    for _ in range(100):
        put_stream(spool, 100)
        await settle(spool)
        await read_stream(spool, 100)
        spool.release(spool.read_offset)
    assert len(files_of(tmp_path)) == 1
    assert spool._spill.disk.queue.start_offset == 0
    await spool.close()
