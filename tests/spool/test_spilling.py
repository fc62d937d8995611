"""To disk and back: when it is used, what is written, what a full or broken disk does, what is left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import SpoolDamaged
from engine.position import Position
from engine.settings import SpoolSettings
from engine.spool.chunk import Section
from engine.spool.spool import Spool
from tests.conditions import until
from tests.spool.streams import (
    OTHER_REPLID,
    REPLID,
    content,
    files_of,
    next_chunk,
    put,
    put_stream,
    read_stream,
    settle,
    small,
)


class Link:
    """The link's side: whether it is told to read."""

    def __init__(self, spool: Spool) -> None:
        self.is_on = True
        spool.attach(self.pause, self.resume)

    def pause(self) -> None:
        assert self.is_on
        self.is_on = False

    def resume(self) -> None:
        assert not self.is_on
        self.is_on = True


def begun(settings: SpoolSettings) -> tuple[Spool, Link]:
    spool = Spool(settings, line="0", run_name="run")
    spool.begin_stream(Position(REPLID, 0))
    return spool, Link(spool)


async def fill(spool: Spool, total: int, size: int = 100) -> None:
    """Receive `total` bytes in chunks of `size`, each after the disk has taken the one before."""
    for _ in range(total // size):
        put_stream(spool, size)
        await settle(spool)


async def fill_while_on(spool: Spool, link: Link, size: int = 100) -> None:
    """Receive until the link is paused."""
    while link.is_on:
        put_stream(spool, size)
        await settle(spool)


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


async def test_at_the_budget_the_link_waits_and_goes_on_as_files_are_released(
    tmp_path: Path,
) -> None:
    spool, link = begun(small(tmp_path, disk_bytes=8000))
    await fill_while_on(spool, link)

    assert spool.blocked.startswith("spool full: 7.")
    assert spool.blocked.endswith("of 7.8 KiB on disk")
    assert 7000 < spool.disk_bytes <= 8000
    received = spool.end_offset
    while not link.is_on:
        await read_stream(spool, 200)
        spool.release(spool.read_offset)
        await settle(spool)
    assert spool.blocked is None
    assert spool._is_spilling
    assert spool.end_offset == received
    await fill_while_on(spool, link)
    rest = spool.end_offset - spool.read_offset
    assert await read_stream(spool, rest) == content(spool.end_offset - rest, rest)
    await spool.close()


async def test_what_the_target_waits_for_comes_even_when_the_disk_is_full(tmp_path: Path) -> None:
    spool, link = begun(small(tmp_path, disk_bytes=4000))
    for _ in range(20):  # a transaction of the source, larger than the budget: nothing is confirmed
        await fill_while_on(spool, link)
        rest = spool.held_bytes
        assert await read_stream(spool, rest) == content(spool.end_offset - rest, rest)
        await settle(spool)
        assert link.is_on
        assert spool.memory_bytes_held < 4000

    assert spool.end_offset > 3 * 4000
    assert not spool.covers(Position(REPLID, 0))
    await spool.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_stops_the_link_and_loses_nothing(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(32 * 1024))
    sizes = {"memory_bytes": 20_000, "segment_bytes": 100_000}
    spool, link = begun(small(tiny_disk / "task", **sizes))
    await fill_while_on(spool, link, size=1000)

    assert spool.blocked == f"disk full: No space left on device ({tiny_disk}/task/line-0)"
    (path,) = files_of(tiny_disk / "task")
    assert path.stat().st_size == spool.disk_bytes
    received = spool.end_offset

    ballast.unlink()
    await until(lambda: link.is_on, "the link goes on by itself")
    await settle(spool)
    assert spool.blocked is None
    put_stream(spool, 1000)
    assert await read_stream(spool, received + 1000) == content(0, received + 1000)
    await spool.close()


async def test_a_reader_that_catches_up_needs_no_disk(tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(60 * 1024))
    spool, link = begun(small(tiny_disk / "task", memory_bytes=20_000))
    await fill_while_on(spool, link, size=1000)
    assert spool.blocked.startswith("disk full")

    received = spool.end_offset
    assert await read_stream(spool, received) == content(0, received)
    spool.release(received)

    assert link.is_on
    assert spool.blocked is None
    await spool.close()


async def test_a_folder_that_cannot_be_made_blocks_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "task").write_text("in the way")
    spool, link = begun(small(tmp_path / "task"))

    await fill_while_on(spool, link)

    assert spool.blocked.startswith("disk failed: ")
    assert str(tmp_path / "task") in spool.blocked
    await spool.close()


async def test_damage_on_disk_is_an_error_and_never_wrong_bytes(tmp_path: Path) -> None:
    spool, _ = begun(small(tmp_path))
    await fill(spool, 10_000)
    path = files_of(tmp_path)[2]
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 4
    path.write_bytes(damaged)

    taken = b""

    async def read_on() -> None:
        nonlocal taken
        while True:
            taken += (await next_chunk(spool)).data

    with pytest.raises(SpoolDamaged, match=path.name):
        await read_on()

    assert taken == content(0, len(taken))
    assert spool.position is None
    assert spool.held_bytes == 0
    spool.reopen()
    spool.begin_stream(Position(REPLID, len(taken)))
    put_stream(spool, 10)
    assert (await next_chunk(spool)).data == content(len(taken), 10)
    await settle(spool)
    assert files_of(tmp_path) == []
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
