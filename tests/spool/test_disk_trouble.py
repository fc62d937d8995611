"""The budget, a full disk, a broken one: the link waits and says why, nothing is lost, nothing is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import SpoolDamaged
from engine.position import Position
from tests.conditions import until
from tests.spool.streams import (
    REPLID,
    begun,
    content,
    files_of,
    fill,
    fill_while_on,
    next_chunk,
    put_stream,
    read_stream,
    settle,
    small,
)


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
