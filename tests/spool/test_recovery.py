"""What a later run makes of the files an earlier one left: torn, flipped, missing, foreign, doubled."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.errors import InternalError
from engine.position import Position
from engine.spool.chunk import Chunk, Section
from engine.spool.recovery import scan
from engine.spool.segment import (
    RECORD_HEADER_BYTES,
    SegmentHeader,
    decode_header,
    encode_header,
    encode_records,
    find_records,
)
from engine.spool.spool import Spool
from tests.spool.streams import (
    OTHER_REPLID,
    REPLID,
    THIRD_REPLID,
    content,
    files_of,
    put,
    put_stream,
    read_stream,
    settle,
    small,
)

START = 1000


async def leave_files(
    directory: Path,
    run_name: str,
    offset: int,
    sizes: list[int],
    *,
    replid: str = REPLID,
    ms: int = 1_000_000,
) -> list[Path]:
    """What a run that spilled all it received leaves when it is killed; its files."""
    spool = Spool(small(directory, memory_bytes=1), line="0", run_name=run_name)
    spool.begin_stream(Position(replid, offset))
    for at, size in enumerate(sizes):
        put_stream(spool, size, ms=ms + at)
        await settle(spool)
    await spool.close()
    return [it for it in files_of(directory) if it.name.startswith(f"{run_name}-")]


def recover(directory: Path) -> Spool:
    return Spool.recover(small(directory), "0", "later")


async def assert_holds(spool: Spool, start: int, end: int) -> None:
    assert (spool.start_offset, spool.end_offset) == (start, end)
    assert spool.held_bytes == spool.recovered_bytes == end - start
    assert await read_stream(spool, end - start) == content(start, end - start)
    await spool.close()


def holds_nothing(spool: Spool, directory: Path) -> bool:
    return spool.position is None and spool.held_bytes == 0 and files_of(directory) == []


async def test_all_is_there_after_a_kill(tmp_path: Path) -> None:
    files = await leave_files(tmp_path, "one", START, [400] * 10)
    assert len(files) == 3

    spool = recover(tmp_path)

    assert spool.position == Position(REPLID, 5000)
    assert 0 <= time.monotonic() - spool.oldest_received_seconds < 30
    await assert_holds(spool, START, 5000)


async def test_a_torn_tail_is_cut_at_every_byte_of_the_last_record(tmp_path: Path) -> None:
    (path,) = await leave_files(tmp_path, "one", START, [100, 60])
    whole = path.read_bytes()
    last = RECORD_HEADER_BYTES + 60

    for missing in range(1, last + 1):
        path.write_bytes(whole[:-missing])
        await assert_holds(recover(tmp_path), START, START + 100)
        assert path.stat().st_size == len(whole) - last


async def test_a_flipped_bit_ends_the_stream_before_it(tmp_path: Path) -> None:
    (path,) = await leave_files(tmp_path, "one", START, [100, 60])
    whole = path.read_bytes()
    first = len(whole) - 2 * RECORD_HEADER_BYTES - 160

    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        spool = recover(tmp_path)
        if at < first + RECORD_HEADER_BYTES + 100:
            assert holds_nothing(spool, tmp_path)
        else:
            await assert_holds(spool, START, START + 100)


async def test_a_hole_of_zeros_is_no_record(tmp_path: Path) -> None:
    (path,) = await leave_files(tmp_path, "one", START, [100])
    path.write_bytes(path.read_bytes() + bytes(5000))

    await assert_holds(recover(tmp_path), START, START + 100)


async def test_files_behind_a_damaged_place_are_dropped(tmp_path: Path) -> None:
    files = await leave_files(tmp_path, "one", START, [400] * 10)
    damaged = bytearray(files[1].read_bytes())
    damaged[-1] ^= 1
    files[1].write_bytes(damaged)

    await assert_holds(recover(tmp_path), START, START + 7 * 400)
    assert files_of(tmp_path) == files[:2]


async def test_without_a_file_in_the_middle_what_is_newer_is_kept(tmp_path: Path) -> None:
    files = await leave_files(tmp_path, "one", START, [400] * 10)
    files[1].unlink()

    await assert_holds(recover(tmp_path), START + 8 * 400, START + 10 * 400)
    assert files_of(tmp_path) == files[2:]


async def test_the_files_of_two_runs_are_one_stream_where_they_overlap(tmp_path: Path) -> None:
    await leave_files(tmp_path, "one", START, [400] * 6)
    await leave_files(tmp_path, "two", START + 500, [700] * 6)

    await assert_holds(recover(tmp_path), START, START + 500 + 4200)


async def test_of_two_streams_the_newer_one_is_kept(tmp_path: Path) -> None:
    old = await leave_files(tmp_path, "one", START, [400] * 6)
    new = await leave_files(tmp_path, "two", 90, [50], replid=OTHER_REPLID, ms=2_000_000)

    spool = recover(tmp_path)

    assert spool.position == Position(OTHER_REPLID, 140)
    assert files_of(tmp_path) == new
    assert old
    await assert_holds(spool, 90, 140)


async def test_what_is_no_segment_is_removed_and_other_files_stay(tmp_path: Path) -> None:
    (path,) = await leave_files(tmp_path, "one", START, [100])
    (path.parent / "zero-00000001.seg").write_bytes(b"")
    (path.parent / "text-00000001.seg").write_text("RFSPOOL is what this is not\n" * 10)
    other = path.parent / "notes.txt"
    other.write_text("mine")

    await assert_holds(recover(tmp_path), START, START + 100)
    assert files_of(tmp_path) == sorted([other, path])


async def test_a_later_run_goes_on_in_its_own_files(tmp_path: Path) -> None:
    (path,) = await leave_files(tmp_path, "one", START, [300])
    before = path.read_bytes()
    spool = recover(tmp_path)
    assert spool.rewind(START + 100)
    spool.begin_stream(Position(REPLID, START + 300))
    for _ in range(10):
        put_stream(spool, 200)
    await settle(spool)
    await spool.close()

    assert path.read_bytes() == before
    await assert_holds(Spool.recover(small(tmp_path), "0", "third"), START, START + 2300)


async def test_replids_outlive_the_process(tmp_path: Path) -> None:
    spool = Spool(small(tmp_path, memory_bytes=100), line="0", run_name="one")
    spool.begin_stream(Position(REPLID, START))
    put_stream(spool, 500)
    spool.begin_stream(Position(OTHER_REPLID, START + 500))
    put_stream(spool, 500)
    spool.begin_stream(Position(THIRD_REPLID, START + 1000))
    spool.end()
    await spool.persist()
    await spool.close()

    spool = recover(tmp_path)

    assert spool.position == Position(THIRD_REPLID, START + 1000)
    covered = [
        [
            offset
            for offset in (0, 499, 500, 501, 1000)
            if spool.covers(Position(it, START + offset))
        ]
        for it in (REPLID, OTHER_REPLID, THIRD_REPLID)
    ]
    assert covered == [[0, 499, 500], [500, 501, 1000], [1000]]
    await spool.close()


async def snapshot_in_memory(spool: Spool) -> None:
    put(spool, Section.SNAPSHOT, bytes(900))
    for _ in range(10):
        put_stream(spool, 400)
        await settle(spool)


async def snapshot_on_disk(spool: Spool) -> None:
    for _ in range(10):
        put(spool, Section.SNAPSHOT, bytes(900))
        await settle(spool)
    for _ in range(10):
        put_stream(spool, 400)
        await settle(spool)


@pytest.mark.parametrize("receive", [snapshot_in_memory, snapshot_on_disk])
async def test_a_stream_behind_an_unread_snapshot_is_of_no_use(
    tmp_path: Path, receive: Callable[[Spool], Awaitable[None]]
) -> None:
    spool = Spool(small(tmp_path), line="0", run_name="one")
    spool.begin_snapshot(Position(REPLID, START))
    await receive(spool)
    await spool.close()
    assert len(files_of(tmp_path)) > 2

    assert holds_nothing(recover(tmp_path), tmp_path)


def test_an_empty_or_missing_folder_holds_nothing(tmp_path: Path) -> None:
    assert holds_nothing(recover(tmp_path / "missing"), tmp_path)
    assert not (tmp_path / "missing").exists()


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="file's name"):
        Spool(small(tmp_path), line="../0", run_name="one")


def test_an_unreadable_file_is_no_segment(tmp_path: Path) -> None:
    folder = tmp_path / "one-00000001.seg"
    folder.mkdir()

    assert scan(folder) is None


def test_a_header_says_what_was_put_into_it() -> None:
    header = SegmentHeader(Section.STREAM, 2**60, 1_700_000_000_000, ((REPLID, 5), ("", 7)))

    data = encode_header(header)

    assert len(data) == header.encoded_bytes
    assert decode_header(data + b"more") == header
    assert all(decode_header(data[:size]) is None for size in range(len(data)))


def test_chunks_of_one_millisecond_share_a_record() -> None:
    chunks = [
        Chunk(Section.STREAM, b"ab", 0.0, ms, is_late, offset, 1)
        for offset, ms, is_late in ((0, 5, False), (2, 5, False), (4, 6, False), (6, 6, True))
    ]

    block = b"".join(encode_records(chunks, 1000))

    records, used, is_bad = find_records(memoryview(block))
    assert [(it.offset, it.length, it.received_ms, it.is_late) for it in records] == [
        (0, 4, 5, False),
        (4, 2, 6, False),
        (6, 2, 6, True),
    ]
    assert (used, is_bad) == (len(block), False)
    assert len(encode_records(chunks, 2)) == 8
