"""The spool without a disk: order, the marks at which reading pauses and goes on, the tail, the end, waking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceLinkLost
from engine.position import Position
from engine.settings import SpoolSettings
from engine.spool.chunk import Section
from engine.spool.spool import Spool
from tests.spool.streams import OTHER_REPLID, REPLID, put, put_stream, small

LIMIT = 1000


class Reading:
    """The link's side: whether it is told to read."""

    def __init__(self, settings: SpoolSettings) -> None:
        self.is_on = True
        self.spool = Spool(settings, line="0", run_name="run")
        self.spool.attach(self.pause, self.resume)
        self.spool.begin_stream(Position(REPLID, 0))

    def pause(self) -> None:
        assert self.is_on
        self.is_on = False

    def resume(self) -> None:
        assert not self.is_on
        self.is_on = True


@pytest.fixture
def reading() -> Reading:
    return Reading(small(None, memory_bytes=LIMIT))


@pytest.fixture
def spool(reading: Reading) -> Spool:
    return reading.spool


def test_chunks_come_out_in_order_with_their_offsets(spool: Spool) -> None:
    for data in (b"a", b"bc", b""):
        put(spool, Section.STREAM, data, is_late=data == b"bc")

    taken = [spool.get_now() for _ in range(3)]
    assert [(it.offset, it.data, it.is_late) for it in taken] == [
        (0, b"a", False),
        (1, b"bc", True),
        (3, b"", False),
    ]
    assert spool.get_now() is None


def test_reading_pauses_at_the_upper_mark_and_goes_on_at_the_lower(reading: Reading) -> None:
    spool, seen = reading.spool, []
    for _ in range(5):
        put_stream(spool, 250)
        seen.append(reading.is_on)
    assert spool.blocked == "spool full: 1.2 KiB of 1000 B in memory"
    for _ in range(5):
        spool.get_now()
        seen.append(reading.is_on)

    assert seen == [True] * 3 + [False] * 4 + [True] * 3
    assert spool.blocked is None
    assert spool.pauses == 1
    assert spool.peak_memory_bytes == 1250


def test_a_new_link_hears_at_once_that_it_must_not_read(reading: Reading) -> None:
    put_stream(reading.spool, LIMIT)
    calls: list[str] = []

    reading.spool.attach(lambda: calls.append("pause"), lambda: calls.append("resume"))
    reading.spool.get_now()

    assert calls == ["pause", "resume"]


@given(st.lists(st.integers(-3, 700), max_size=60))
def test_bytes_held_are_those_put_and_not_taken(steps: list[int]) -> None:
    reading = Reading(small(None, memory_bytes=LIMIT))
    spool, expected = reading.spool, []
    for step in steps:
        if step >= 0:
            expected.append(step)
            put_stream(spool, step)
        elif expected:
            assert len(spool.get_now().data) == expected.pop(0)
        assert spool.held_bytes == sum(expected)
        assert spool.is_empty == (not expected)
        if sum(expected) >= LIMIT:
            assert not reading.is_on
        if sum(expected) <= LIMIT // 2:
            assert reading.is_on


def test_the_age_of_the_oldest_bytes_is_known(spool: Spool) -> None:
    assert spool.oldest_received_seconds is None

    spool.put(Section.STREAM, b"a", received_seconds=5.0, received_ms=5000)
    spool.put(Section.STREAM, b"b", received_seconds=6.0, received_ms=6000)
    assert spool.oldest_received_seconds == 5.0

    spool.get_now()
    assert spool.oldest_received_seconds == 6.0


def test_the_tail_behind_the_confirmed_offset_is_kept_and_no_more(spool: Spool) -> None:
    for _ in range(12):
        put_stream(spool, 100)
        spool.get_now()

    spool.release(1000)

    assert spool.start_offset == 700
    assert not spool.rewind(699)
    assert spool.rewind(725)
    chunk = spool.get_now()
    assert (chunk.offset, len(chunk.data)) == (725, 75)
    assert spool.held_bytes == 400


def test_what_is_never_confirmed_does_not_fill_the_memory(spool: Spool) -> None:
    for _ in range(100):
        put_stream(spool, 100)
        spool.get_now()

    assert spool.memory_bytes_held <= LIMIT + 300
    assert not spool.covers(Position(REPLID, 5000))
    assert spool.covers(Position(REPLID, 9900))


def test_a_switch_of_the_replid_keeps_what_is_held(spool: Spool) -> None:
    put_stream(spool, 100)
    spool.begin_stream(Position(OTHER_REPLID, 100))
    put_stream(spool, 50)

    assert spool.held_bytes == 150
    covered = [
        (replid, offset)
        for replid in (REPLID, OTHER_REPLID)
        for offset in (0, 99, 100, 101, 150, 151)
        if spool.covers(Position(replid, offset))
    ]
    assert covered == [
        (REPLID, 0),
        (REPLID, 99),
        (REPLID, 100),
        (OTHER_REPLID, 100),
        (OTHER_REPLID, 101),
        (OTHER_REPLID, 150),
    ]
    assert [spool.replid_at(it) for it in (99, 100)] == [REPLID, OTHER_REPLID]
    assert spool.get_now().generation < spool.get_now().generation
    assert spool.first_generation == 1


def test_a_stream_that_begins_elsewhere_replaces_what_is_held(spool: Spool) -> None:
    put_stream(spool, 100)

    spool.begin_stream(Position(REPLID, 101))

    assert spool.held_bytes == 0
    assert spool.get_now() is None
    assert (spool.start_offset, spool.position) == (101, Position(REPLID, 101))
    assert spool.first_generation == 2


def test_the_same_offset_of_another_history_is_not_gone_on_with(spool: Spool) -> None:
    put_stream(spool, 100)

    spool.begin_stream(Position(REPLID, 100), asked=Position(REPLID, 100))
    assert spool.held_bytes == 100
    spool.begin_stream(Position(OTHER_REPLID, 100), asked=Position(OTHER_REPLID, 100))
    assert spool.held_bytes == 0


def test_a_source_without_replid_covers_nothing(spool: Spool) -> None:
    spool.begin_snapshot(Position("", 0))
    put_stream(spool, 100)

    assert not spool.covers(Position("", 0))
    assert spool.rewind(0)


def test_a_snapshot_that_did_not_come_in_whole_cannot_be_followed_by_a_stream(spool: Spool) -> None:
    spool.begin_snapshot(Position(REPLID, 500))
    put(spool, Section.SNAPSHOT, b"REDIS")
    assert spool.position is None

    spool.begin_stream(Position(REPLID, 500))

    assert spool.held_bytes == 0


def test_a_snapshot_is_gone_once_read_and_the_stream_behind_it_held(spool: Spool) -> None:
    spool.begin_snapshot(Position(REPLID, 500))
    put(spool, Section.SNAPSHOT, b"REDIS")
    put(spool, Section.STREAM, b"")
    put_stream(spool, 10)
    assert spool.position == Position(REPLID, 510)
    assert not spool.covers(Position(REPLID, 500))
    assert not spool.rewind(500)

    chunks = [spool.get_now() for _ in range(3)]

    assert [it.section for it in chunks] == [Section.SNAPSHOT, Section.STREAM, Section.STREAM]
    assert [it.offset for it in chunks] == [0, 500, 500]
    assert spool.covers(Position(REPLID, 500))
    assert spool.rewind(500)
    assert spool.memory_bytes_held == 10


async def is_waiting(future: asyncio.Future[bool]) -> bool:
    """Whether `future` still waits after everything that is ready has run."""
    for _ in range(3):
        await asyncio.sleep(0)
    return not future.done()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda spool: put_stream(spool, 1), True),
        (lambda spool: spool.wake(), True),
        (lambda spool: spool.end(), False),
    ],
    ids=["put", "wake", "end"],
)
async def test_a_waiter_hears_of_it(
    act: Callable[[Spool], None], expected: bool, spool: Spool
) -> None:
    waiting = asyncio.ensure_future(spool.wait())
    assert await is_waiting(waiting)

    act(spool)

    assert await waiting is expected


async def test_no_one_waits_while_there_is_something(spool: Spool) -> None:
    put_stream(spool, 1)

    assert await spool.wait() is True


async def test_what_is_left_comes_before_the_error(spool: Spool) -> None:
    put_stream(spool, 1)
    spool.end(SourceLinkLost("gone"))

    assert await spool.wait() is True
    spool.get_now()
    with pytest.raises(SourceLinkLost, match="gone"):
        await spool.wait()


async def test_an_error_reaches_one_who_waits_already(spool: Spool) -> None:
    waiting = asyncio.ensure_future(spool.wait())
    assert await is_waiting(waiting)

    spool.end(SourceLinkLost("gone"))

    with pytest.raises(SourceLinkLost, match="gone"):
        await waiting


async def test_only_the_first_end_counts(spool: Spool) -> None:
    spool.end()
    spool.end(SourceLinkLost("gone"))
    put_stream(spool, 5)

    assert await spool.wait() is False
    assert spool.held_bytes == 0


async def test_another_link_goes_on_after_the_end(spool: Spool) -> None:
    put_stream(spool, 5)
    spool.end(SourceLinkLost("gone"))

    spool.reopen()
    spool.begin_stream(Position(REPLID, 5))
    put_stream(spool, 5)

    assert [spool.get_now().offset, spool.get_now().offset] == [0, 5]


async def test_a_cancelled_waiter_is_forgotten(spool: Spool) -> None:
    waiting = asyncio.ensure_future(spool.wait())
    assert await is_waiting(waiting)
    waiting.cancel()
    assert not await is_waiting(waiting)

    put_stream(spool, 1)

    assert await spool.wait() is True
