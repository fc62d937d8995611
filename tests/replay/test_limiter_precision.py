"""The bandwidth limit on the way to a real target: the mean of any ten seconds, the burst, shares, changes.

What counts is when bytes were let out, so the moment and size of each piece is noted where the limiter grants it; that
they are the bytes the target has got is checked with the target's own count.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Iterable
from itertools import accumulate

import pytest

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.demo.servers import RunningServer
from engine.errors import EngineError
from engine.replay.delivery import Delivery, DeliveryEvents
from engine.replay.token_bucket import TokenBucket
from engine.settings import TargetSettings
from engine.stats import LineStats
from engine.target.replies import ReplyPolicy
from tests.fix_servers import StartServer

pytestmark = pytest.mark.live

MIB = 1024 * 1024
RATE = 5 * MIB
WINDOW_SECONDS = 10.0
MEAN_TOLERANCE = 0.02
BURST_SHARE = 0.01  # of what ten seconds allow
FAIRNESS = 0.05
BLOCK = 128 * 1024

Grant = tuple[float, int]


class Noting(TokenBucket):
    """grants: moment and size of what was let out."""

    def __init__(self, bytes_per_second: int | None) -> None:
        super().__init__(bytes_per_second)
        self.grants: list[Grant] = []

    async def take(self, count: int) -> None:
        await super().take(count)
        self.grants.append((time.monotonic(), count))


def block_of(size: int) -> Block:
    return Block(data=encode("SET", "k", b"x" * (size - 40)), replies=1)


def fail(error: EngineError) -> None:
    raise error


async def open_delivery(target: RunningServer, bucket: TokenBucket) -> Delivery:
    delivery = Delivery(
        limiter=bucket,
        stats=LineStats(),
        events=DeliveryEvents(on_applied=lambda _offset: None, on_failed=fail),
    )
    await delivery.open(
        target.endpoint, TargetSettings(), client_name="limited", policy=ReplyPolicy()
    )
    return delivery


async def send_for(delivery: Delivery, sizes: list[int], seconds: float) -> int:
    """Blocks of these sizes in turn for so long; how many bytes in all."""
    until, sent, number = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        block = block_of(sizes[number % len(sizes)])
        await delivery.send(block, time.monotonic())
        sent += len(block.data)
        number += 1
    await delivery.drain()
    return sent


def received_bytes(target: RunningServer) -> int:
    with target.client() as client:
        return int(client.info("stats")["total_net_input_bytes"])


def windows(grants: list[Grant], seconds: float) -> Iterable[int]:
    """Bytes in each full window of that length that begins with a grant."""
    moments = [moment for moment, _ in grants]
    sums = [0, *accumulate(size for _, size in grants)]
    for first, moment in enumerate(moments):
        if moment + seconds > moments[-1]:
            return
        yield sums[bisect.bisect_left(moments, moment + seconds)] - sums[first]


def largest_excess(grants: list[Grant], rate: int) -> float:
    """By how much any window, of whatever length, holds more than `rate` allows for its length."""
    # The bytes up to each moment minus what it allows: the largest rise from a low to a later high.
    level, lowest, largest = 0.0, 0.0, 0.0
    begin = grants[0][0]
    for moment, size in grants:
        allowed = (moment - begin) * rate
        lowest = min(lowest, level - allowed)
        level += size
        largest = max(largest, level - allowed - lowest)
    return largest


async def limited_run(target: RunningServer, sizes: list[int], seconds: float) -> list[Grant]:
    bucket = Noting(RATE)
    delivery = await open_delivery(target, bucket)
    before = received_bytes(target)
    sent = await send_for(delivery, sizes, seconds)
    delivery.close()
    assert sum(size for _, size in bucket.grants) == sent
    assert 0 <= received_bytes(target) - before - sent < 1000
    return bucket.grants


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[BLOCK], [MIB], [BLOCK, 2 * MIB, 500]], ids=str)
async def test_any_ten_seconds_are_within_two_percent_and_the_burst_within_one(
    sizes: list[int], start_server: StartServer
) -> None:
    grants = await limited_run(start_server("redis-8.2"), sizes, 1.3 * WINDOW_SECONDS)

    sums = list(windows(grants, WINDOW_SECONDS))
    assert len(sums) > 20
    for each in sums:
        assert each == pytest.approx(RATE * WINDOW_SECONDS, rel=MEAN_TOLERANCE)
    assert largest_excess(grants, RATE) <= BURST_SHARE * RATE * WINDOW_SECONDS


@pytest.mark.parametrize("sizes", [[BLOCK], [MIB]], ids=str)
async def test_two_seconds_are_within_their_share_of_it(
    sizes: list[int], start_server: StartServer
) -> None:
    """What is off at the ends of a window weighs more in a short one: the same bytes, and some for a busy machine."""
    grants = await limited_run(start_server("redis-8.2"), sizes, 3.0)

    allowed = RATE * 2.0
    off = MEAN_TOLERANCE * RATE * WINDOW_SECONDS
    for each in windows(grants, 2.0):
        assert allowed - off <= each <= allowed + off
    assert largest_excess(grants, RATE) <= BURST_SHARE * RATE * WINDOW_SECONDS


async def test_lines_that_share_a_limit_get_equal_parts_of_it(start_server: StartServer) -> None:
    target, other = start_server("redis-8.2"), start_server("redis-6.2")
    bucket = Noting(RATE)
    lines = [await open_delivery(server, bucket) for server in (target, other, target)]

    began = time.monotonic()
    sent = await asyncio.gather(*(send_for(line, [BLOCK], 3.0) for line in lines))
    elapsed = time.monotonic() - began

    for line in lines:
        line.close()
    mean = sum(sent) / len(sent)
    assert all(each == pytest.approx(mean, rel=FAIRNESS) for each in sent)
    assert sum(sent) == pytest.approx(RATE * elapsed, rel=FAIRNESS)


async def test_a_change_holds_from_the_moment_it_is_made(start_server: StartServer) -> None:
    bucket = Noting(RATE)
    delivery = await open_delivery(start_server("redis-8.2"), bucket)
    sending = asyncio.create_task(send_for(delivery, [BLOCK], 4.5))
    changes: list[tuple[float, int]] = []
    for rate in (RATE, 4 * RATE, RATE // 2):
        bucket.set_rate(rate)
        changes.append((time.monotonic(), rate))
        await asyncio.sleep(1.4)
    bucket.set_rate(None)
    await sending
    delivery.close()

    ends = [moment for moment, _ in changes[1:]] + [changes[-1][0] + 1.4]
    for (moment, rate), end in zip(changes, ends, strict=True):
        sent = sum(size for at, size in bucket.grants if moment <= at < end)
        # A debt or a burst of the rate before may still be in it.
        assert sent == pytest.approx(rate * (end - moment), rel=0.12)
