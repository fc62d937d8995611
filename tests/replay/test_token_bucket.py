"""The bandwidth limit, on a clock of the test's own: mean, burst, changes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.replay.token_bucket import BURST_SECONDS, TokenBucket

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.integers(MIB, 10_240 * MIB),
    bursts=st.lists(st.floats(0.05, 20), min_size=1, max_size=20),
)
def test_the_mean_is_within_two_percent_for_any_block_sizes(rate: int, bursts: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, now=clock)
    sizes = [int(it * rate * BURST_SECONDS) for it in bursts]
    began, sent = clock.now, 0

    # For as long as makes a single block and the burst small.
    while sent < 100 * (max(sizes) + rate * BURST_SECONDS):
        for size in sizes:
            sent += size
            clock.now += bucket.spend(size)

    assert sent / (clock.now - began) == pytest.approx(rate, rel=0.02)


@given(
    idle_seconds=st.floats(0, 3600),
    sizes=st.lists(st.integers(1, 2 * MIB), min_size=1, max_size=30),
)
def test_after_any_silence_no_more_than_the_burst_and_one_block_goes_out_at_once(
    idle_seconds: float, sizes: list[int]
) -> None:
    rate = 10 * MIB
    clock = Clock()
    bucket = TokenBucket(rate, now=clock)
    bucket.spend(1)
    clock.now += idle_seconds

    at_once = 0
    for size in sizes:
        at_once += size
        if bucket.spend(size) > 0:
            break

    assert at_once <= rate * BURST_SECONDS + max(sizes)


def test_a_block_larger_than_the_burst_goes_and_is_paid_for_afterwards() -> None:
    clock = Clock()
    bucket = TokenBucket(MIB, now=clock)

    assert bucket.spend(10 * MIB) == pytest.approx(10)

    clock.now += 4
    assert bucket.spend(0) == pytest.approx(6)
    clock.now += 6
    assert bucket.spend(0) == pytest.approx(0)


def test_without_a_limit_nothing_waits() -> None:
    bucket = TokenBucket(None, now=Clock())

    assert [bucket.spend(1 << 40) for _ in range(3)] == [0.0] * 3


def test_a_changed_rate_counts_from_now_on_and_for_the_debt() -> None:
    clock = Clock()
    bucket = TokenBucket(MIB, now=clock)
    bucket.spend(8 * MIB)
    clock.now += 2

    bucket.set_rate(3 * MIB)

    assert bucket.bytes_per_second == 3 * MIB
    assert bucket.spend(0) == pytest.approx(2)


def test_a_limit_that_was_lifted_leaves_no_tokens_saved_up() -> None:
    clock = Clock()
    bucket = TokenBucket(None, now=clock)
    clock.now += 3600

    bucket.set_rate(MIB)

    assert bucket.spend(MIB) >= 1 - BURST_SECONDS


async def test_the_first_block_does_not_wait_and_the_next_does() -> None:
    bucket = TokenBucket(MIB)

    async with asyncio.timeout(5):
        await bucket.take(MIB // 4)
        assert bucket.throttled_seconds < 0.05
        await bucket.take(1)

    assert bucket.throttled_seconds == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("rate", [None, 1 << 40], ids=["lifted", "raised"])
async def test_who_waits_hears_of_a_new_rate_at_once(rate: int | None) -> None:
    bucket = TokenBucket(1024)
    await bucket.take(MIB)  # a debt of a quarter of an hour
    waiting = asyncio.ensure_future(bucket.take(1))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()

    bucket.set_rate(rate)

    async with asyncio.timeout(5):
        await waiting


async def test_senders_are_served_in_the_order_they_came() -> None:
    bucket = TokenBucket(MIB)
    served: list[int] = []

    async def send(number: int) -> None:
        await bucket.take(20_000)
        served.append(number)

    async with asyncio.timeout(10):
        await asyncio.gather(*(send(number) for number in range(10)))

    assert served == list(range(10))


async def test_a_sender_that_gives_up_does_not_block_the_others() -> None:
    bucket = TokenBucket(1024)
    await bucket.take(MIB)
    first, second = (asyncio.ensure_future(bucket.take(1)) for _ in range(2))
    for _ in range(3):
        await asyncio.sleep(0)

    first.cancel()
    bucket.set_rate(None)

    async with asyncio.timeout(5):
        await second
    assert first.cancelled()
