"""Commands that come one by one: what a chunk takes beside its bytes is bounded too."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from engine.position import Position
from engine.settings import MIB, SpoolSettings
from engine.spool.spool import Spool
from tests.spool.streams import REPLID, content, put_stream

SIZE = 40
COUNT = 100_000


@pytest.fixture
def spool() -> Spool:
    spool = Spool(
        SpoolSettings(memory_bytes=32 * MIB, tail_bytes=MIB, directory=None), line="0", run_name="r"
    )
    spool.begin_stream(Position(REPLID, 0))
    return spool


@pytest.fixture
def traced() -> Iterator[None]:
    content(0, 1)
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_small_chunks_that_nobody_reads_are_joined(spool: Spool) -> None:
    for _ in range(COUNT):
        put_stream(spool, SIZE)

    assert tracemalloc.get_traced_memory()[0] < 1.5 * SIZE * COUNT
    taken = []
    while (chunk := spool.get_now()) is not None:
        assert chunk.offset == sum(len(it.data) for it in taken[-1:]) + (
            taken[-1].offset if taken else 0
        )
        taken.append(chunk)
    assert b"".join(it.data for it in taken) == content(0, SIZE * COUNT)
    # What was joined may have come later than its first byte.
    assert all(it.is_late for it in taken if len(it.data) > SIZE)
    assert not any(it.is_late for it in taken if len(it.data) == SIZE)


@pytest.mark.usefixtures("traced")
def test_the_tail_of_small_chunks_takes_no_more_than_twice_its_bytes(spool: Spool) -> None:
    for _ in range(COUNT):
        put_stream(spool, SIZE)
        spool.get_now()
        spool.release(spool.end_offset)

    assert tracemalloc.get_traced_memory()[0] < 2 * MIB
    end = SIZE * COUNT
    assert spool.rewind(spool.start_offset)  # what is kept can be had again
    assert 4096 * SIZE <= end - spool.start_offset <= MIB
