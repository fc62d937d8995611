"""To disk and back: when it is used, what is written, what a full or broken disk does, what is left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.position import Position
from engine.spool.chunk import Chunk, Section
from engine.spool.files import SegmentFiles, Written
from engine.spool.segment import SegmentHeader
from engine.spool.spool import Spool
from tests.spool.streams import (
    OTHER_REPLID,
    REPLID,
    begun,
    content,
    files_of,
    fill,
    next_chunk,
    put,
    put_stream,
    read_stream,
    settle,
    small,
)


async def test_nothing_touches_the_disk_while_memory_suffices(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path / "task"))
    for _ in range(50):
        put_stream(spool, 900)
        spool.get_now()
        spool.release(spool.read_offset)

    await spool.persist()

    assert not (tmp_path / "task").exists()
    assert spool.spilled_bytes == 0
    assert not any(it.name.startswith("spool") for it in threading.enumerate())


async def test_a_slow_reader_does_not_stop_the_link_and_gets_all(tmp_path: Path) -> None:
    spool, link = begun(small(tmp_path / "task"))
    await fill(spool, 30_000)

    assert link.is_on
    assert spool.pauses == 0
    assert spool.held_bytes == 30_000
    assert spool.peak_memory_bytes < 2000
    assert 29_000 <= spool.spilled_bytes <= 30_000
    assert spool.disk_bytes == sum(it.stat().st_size for it in files_of(tmp_path))
    assert await read_stream(spool, 30_000) == content(0, 30_000)
    assert spool.held_bytes == 0
    await spool.close()


async def test_files_and_folders_are_for_this_user_only(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path / "state" / "task"))
    await fill(spool, 5000)
    await spool.close()

    modes = {it: it.stat().st_mode & 0o777 for it in (tmp_path / "state").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}


async def test_files_go_as_they_are_released_and_the_folder_with_the_last(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path))
    await fill(spool, 10_000)
    counts = [len(files_of(tmp_path))]
    while spool.held_bytes:
        await read_stream(spool, 1000)
        spool.release(spool.read_offset)
        await settle(spool)
        counts.append(len(files_of(tmp_path)))

    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 4
    assert list(tmp_path.iterdir()) == []
    assert spool.disk_bytes == 0
    assert not spool._is_spilling
    await spool.close()


async def test_files_begin_at_or_before_what_is_confirmed(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path))
    put_stream(spool, 900)
    await read_stream(spool, 900)
    spool.release(450)
    await fill(spool, 3000)
    await spool.close()

    later = Spool.recover(small(tmp_path), "0", "later")

    assert later.covers(Position(REPLID, 450))
    assert later.end_offset == 3900
    await later.close()


async def test_a_rewind_is_served_from_the_files(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path))
    await fill(spool, 10_000)
    await read_stream(spool, 8000)

    for offset in (0, 50, 3, 777, 7777, 9999, 10_000):
        assert spool.rewind(offset)
        assert spool.held_bytes == 10_000 - offset
        expected = content(offset, 10_000 - offset)
        assert await read_stream(spool, len(expected)) == expected
    assert not spool.rewind(10_001)
    await spool.close()


async def test_a_snapshot_spills_and_its_files_go_when_it_is_read(tmp_path: Path) -> None:
    spool = Spool(small(tmp_path), line="0", run_name="run")
    spool.begin_snapshot(Position(REPLID, 500))
    for at in range(0, 10_000, 100):
        put(spool, Section.SNAPSHOT, content(at, 100))
        await settle(spool)
    put(spool, Section.STREAM, b"")
    spool.end()
    spool.reopen()
    spool.begin_stream(Position(OTHER_REPLID, 500))
    await fill(spool, 5000)
    assert spool.pauses == 0

    rdb = b""
    while len(rdb) < 10_000:
        chunk = await next_chunk(spool)
        assert (chunk.section, chunk.offset) == (Section.SNAPSHOT, len(rdb))
        rdb += chunk.data
    await settle(spool)

    assert rdb == content(0, 10_000)
    assert (await next_chunk(spool)).section is Section.STREAM
    assert spool.covers(Position(REPLID, 500))
    assert await read_stream(spool, 5000) == content(500, 5000)
    spool.release(5500)
    await settle(spool)
    assert files_of(tmp_path) == []
    await spool.close()


async def test_a_snapshot_goes_to_disk_in_blocks_and_the_stream_behind_it_at_once_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[list[Section]] = []
    write = SegmentFiles.write

    def counted(files: SegmentFiles, header: SegmentHeader | None, chunks: list[Chunk]) -> Written:
        writes.append([it.section for it in chunks])
        return write(files, header, chunks)

    monkeypatch.setattr(SegmentFiles, "write", counted)
    settings = small(tmp_path, memory_bytes=16_000, segment_bytes=1_000_000)  # no file's end in it
    spool = Spool(settings, line="0", run_name="run")
    spool.begin_snapshot(Position(REPLID, 500))
    for at in range(0, 60_000, 100):
        put(spool, Section.SNAPSHOT, content(at, 100))
        await settle(spool)
    assert spool.spilled_bytes >= 40_000
    assert min(map(len, writes)) >= 10  # chunks in a block of 2000 bytes, headers among them
    await fill(spool, 20_100)
    rdb = b""
    while len(rdb) < 60_000:
        rdb += (await next_chunk(spool)).data
    await settle(spool)
    assert rdb == content(0, 60_000)
    assert sum(len(it) for it in writes if it[0] is Section.STREAM) == 201  # none waits for more
    assert await read_stream(spool, 20_100) == content(500, 20_100)
    await spool.close()


async def test_a_new_snapshot_drops_the_files(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path))
    await fill(spool, 10_000)
    await read_stream(spool, 100)
    put_stream(spool, 500)  # and a write under way

    spool.begin_snapshot(Position(OTHER_REPLID, 3))
    await settle(spool)

    assert files_of(tmp_path) == []
    assert (spool.held_bytes, spool.disk_bytes, spool.get_now()) == (0, 0, None)
    put(spool, Section.SNAPSHOT, b"REDIS")
    assert (await next_chunk(spool)).data == b"REDIS"
    await spool.close()


@pytest.mark.parametrize("total", [700, 10_000], ids=["in memory", "on disk"])
async def test_a_graceful_stop_keeps_what_is_not_confirmed(tmp_path: Path, total: int) -> None:
    spool, _ = begun(small(tmp_path))
    await fill(spool, total)
    await read_stream(spool, 600)
    spool.release(350)
    spool.end()
    await spool.persist()
    await spool.close()

    later = Spool.recover(small(tmp_path), "0", "later")

    assert later.position == Position(REPLID, total)
    assert later.rewind(350)
    assert await read_stream(later, total - 350) == content(350, total - 350)
    later.release(total)
    later.end()
    assert await later.wait() is False
    await later.persist()
    assert list(tmp_path.iterdir()) == []
    await later.close()


async def test_a_graceful_stop_in_a_snapshot_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(small(tmp_path), line="0", run_name="run")
    spool.begin_snapshot(Position(REPLID, 500))
    for _ in range(50):
        put(spool, Section.SNAPSHOT, bytes(100))
        await settle(spool)
    put_stream(spool, 100)

    await spool.persist()

    assert list(tmp_path.iterdir()) == []
    await spool.close()


async def test_deleting_removes_every_runs_files_and_the_empty_folders(tmp_path: Path) -> None:
    directory = tmp_path / "task"
    for run_name in ("one", "two"):
        spool = Spool(small(directory), line="0", run_name=run_name)
        spool.begin_stream(Position(REPLID, 0))
        await fill(spool, 5000)
        if run_name == "one":
            await spool.close()
    put_stream(spool, 500)  # a write is under way

    spool.delete()

    assert not directory.exists()
    await spool.close()


async def test_two_runs_never_write_into_one_file(tmp_path: Path) -> None:
    paused, _ = begun(small(tmp_path))
    await fill(paused, 3000)
    later = Spool.recover(small(tmp_path), "0", "later")
    assert later.rewind(1500)
    later.begin_stream(Position(REPLID, 3000))
    for _ in range(10):
        put_stream(paused, 100)
        put_stream(later, 100)
    await settle(paused)
    await settle(later)

    assert await read_stream(later, 2500) == content(1500, 2500)
    await paused.close()
    await later.close()
    third = Spool.recover(small(tmp_path), "0", "third")
    assert (third.end_offset, third.covers(Position(REPLID, 1500))) == (4000, True)
    await third.close()


# Keeps some kilobytes more than memory and the writes under way can hold. Says what is confirmed before it is.
KILLED = """
import asyncio, sys
from pathlib import Path
from engine.position import Position
from tests.spool.streams import REPLID, put_stream, read_stream, small
from engine.spool.spool import Spool

async def main():
    spool = Spool(small(Path(sys.argv[1])), line="0", run_name="killed")
    spool.begin_stream(Position(REPLID, 0))
    may_read = asyncio.Event()
    may_read.set()
    spool.attach(may_read.clear, may_read.set)
    while True:
        while spool.held_bytes < 8000:
            await may_read.wait()
            put_stream(spool, 77)
            await asyncio.sleep(0)
        await read_stream(spool, 500)
        confirmed = spool.read_offset - 300
        print("confirmed", confirmed, spool.end_offset, flush=True)
        spool.release(confirmed)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 60, 300])
async def test_after_kill_9_the_files_serve_the_targets_checkpoint(
    tmp_path: Path, lines: int
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    while len(said) < lines:
        said += [it for it in [child.stdout.readline()] if it.startswith("confirmed")]
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = await asyncio.to_thread(child.communicate)
    said += [it for it in rest.splitlines(keepends=True) if it.startswith("confirmed")]
    *_, before_last, last = ["confirmed 0 0", *(it for it in said if it.endswith("\n"))]
    received = int(last.split()[2])

    spool = Spool.recover(small(tmp_path), "0", "later")

    assert spool.end_offset <= received + 8000
    for line in (last, before_last):  # the last may not have been confirmed any more
        confirmed = int(line.split()[1])
        assert spool.covers(Position(REPLID, confirmed)) or line is before_last
        if spool.rewind(confirmed):
            held = spool.end_offset - confirmed
            assert held > 0
            assert await read_stream(spool, held) == content(confirmed, held)
    await spool.close()


async def test_the_age_of_what_is_on_disk_is_known(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path))
    began = time.monotonic()
    await fill(spool, 10_000)

    assert began <= spool.oldest_received_seconds <= time.monotonic()
    chunk = None
    while spool.held_bytes:
        chunk = await next_chunk(spool)
        assert began - 0.01 <= chunk.received_seconds <= time.monotonic()
        assert (spool.oldest_received_seconds is None) == (spool.held_bytes == 0)
    assert not chunk.is_late
    await spool.close()
