"""The memory spool: order, the marks at which reading pauses and goes on, the end, waking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceLinkLost
from engine.spool.memory import Chunk, MemorySpool, Section

LIMIT = 1000


def chunk(data: bytes, at: float = 1.0) -> Chunk:
    return Chunk(Section.STREAM, data, at, int(at * 1000))


class Reading:
    """The link's side: whether it is told to read."""

    def __init__(self) -> None:
        self.is_on = True
        self.spool = MemorySpool(memory_bytes=LIMIT, pause=self.pause, resume=self.resume)

    def pause(self) -> None:
        assert self.is_on
        self.is_on = False

    def resume(self) -> None:
        assert not self.is_on
        self.is_on = True


@pytest.fixture
def reading() -> Reading:
    return Reading()


@pytest.fixture
def spool(reading: Reading) -> MemorySpool:
    return reading.spool


def test_chunks_come_out_in_order(spool: MemorySpool) -> None:
    put = [chunk(b"a"), chunk(b"bc"), chunk(b"")]
    for it in put:
        spool.put(it)

    assert [spool.get_now() for _ in range(4)] == [*put, None]


def test_reading_pauses_at_the_upper_mark_and_goes_on_at_the_lower(reading: Reading) -> None:
    spool, seen = reading.spool, []
    for _ in range(5):
        spool.put(chunk(bytes(250)))
        seen.append(reading.is_on)
    for _ in range(5):
        spool.get_now()
        seen.append(reading.is_on)

    assert seen == [True] * 3 + [False] * 4 + [True] * 3
    assert spool.pauses == 1
    assert spool.peak_bytes == 1250


@given(st.lists(st.integers(-3, 700), max_size=60))
def test_bytes_held_are_those_put_and_not_taken(steps: list[int]) -> None:
    reading = Reading()
    spool, expected = reading.spool, []
    for step in steps:
        if step >= 0:
            expected.append(step)
            spool.put(chunk(bytes(step)))
        elif expected:
            assert len(spool.get_now().data) == expected.pop(0)
        assert spool.held_bytes == sum(expected)
        assert spool.is_empty == (not expected)
        if sum(expected) >= LIMIT:
            assert not reading.is_on
        if sum(expected) <= LIMIT // 2:
            assert reading.is_on


def test_the_age_of_the_oldest_bytes_is_known(spool: MemorySpool) -> None:
    assert spool.oldest_received_seconds is None

    spool.put(chunk(b"a", 5.0))
    spool.put(chunk(b"b", 6.0))
    assert spool.oldest_received_seconds == 5.0

    spool.get_now()
    assert spool.oldest_received_seconds == 6.0


async def is_waiting(future: asyncio.Future[bool]) -> bool:
    """Whether `future` still waits after everything that is ready has run."""
    for _ in range(3):
        await asyncio.sleep(0)
    return not future.done()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda spool: spool.put(chunk(b"a")), True),
        (lambda spool: spool.wake(), True),
        (lambda spool: spool.end(), False),
        (lambda spool: spool.discard(), False),
    ],
    ids=["put", "wake", "end", "discard"],
)
async def test_a_waiter_hears_of_it(
    act: Callable[[MemorySpool], None], expected: bool, spool: MemorySpool
) -> None:
    waiting = asyncio.ensure_future(spool.wait())
    assert await is_waiting(waiting)

    act(spool)

    assert await waiting is expected


async def test_no_one_waits_while_there_is_something(spool: MemorySpool) -> None:
    spool.put(chunk(b"a"))

    assert await spool.wait() is True


async def test_what_is_left_comes_before_the_end(spool: MemorySpool) -> None:
    spool.put(chunk(b"a"))
    spool.end()

    assert await spool.wait() is True
    assert spool.get_now() == chunk(b"a")
    assert await spool.wait() is False


async def test_what_is_left_comes_before_the_error(spool: MemorySpool) -> None:
    spool.put(chunk(b"a"))
    spool.end(SourceLinkLost("gone"))

    assert await spool.wait() is True
    spool.get_now()
    with pytest.raises(SourceLinkLost, match="gone"):
        await spool.wait()


async def test_an_error_reaches_one_who_waits_already(spool: MemorySpool) -> None:
    waiting = asyncio.ensure_future(spool.wait())
    assert await is_waiting(waiting)

    spool.end(SourceLinkLost("gone"))

    with pytest.raises(SourceLinkLost, match="gone"):
        await waiting


async def test_only_the_first_end_counts(spool: MemorySpool) -> None:
    spool.end()
    spool.end(SourceLinkLost("gone"))
    spool.put(chunk(b"too late"))

    assert await spool.wait() is False
    assert spool.held_bytes == 0


async def test_discarding_drops_what_is_held(spool: MemorySpool) -> None:
    spool.put(chunk(b"a"))

    spool.discard()

    assert spool.get_now() is None
    assert spool.held_bytes == 0
    assert await spool.wait() is False


async def test_a_cancelled_waiter_is_forgotten(spool: MemorySpool) -> None:
    waiting = asyncio.ensure_future(spool.wait())
    assert await is_waiting(waiting)
    waiting.cancel()
    assert not await is_waiting(waiting)

    spool.put(chunk(b"a"))

    assert await spool.wait() is True
