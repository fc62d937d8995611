"""The bandwidth limit: a token bucket in bytes, shared by the task's lines.

A block larger than the burst is let through and the debt is waited off afterwards, so the mean is kept for
any block size. The rate may change at any time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BURST_SECONDS = 0.05
PIECE_SECONDS = 0.02  # more is written in pieces of so much
LEAST_PIECE_BYTES = 8 * 1024


class TokenBucket:
    """bytes_per_second None means no limit. 1 MB in the settings is 1,048,576 bytes.

    throttled_seconds: how long senders have waited in all.
    """

    def __init__(
        self, bytes_per_second: int | None, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._rate = bytes_per_second
        self._tokens = 0.0
        self._refilled_at = now()
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self.throttled_seconds = 0.0

    @property
    def bytes_per_second(self) -> int | None:
        """The limit in force."""
        return self._rate

    @property
    def piece_bytes(self) -> int:
        """How much to take at once so that the flow is even; 0: any amount."""
        return 0 if self._rate is None else max(int(self._rate * PIECE_SECONDS), LEAST_PIECE_BYTES)

    def set_rate(self, bytes_per_second: int | None) -> None:
        """Change the limit; who waits now waits by the new rate."""
        self._refill()
        self._rate = bytes_per_second
        self._tokens = min(self._tokens, self._burst())
        self._changed.set()

    def spend(self, count: int) -> float:
        """Take `count` bytes; return how many seconds to wait before the next may be sent (0: none)."""
        if self._rate is None:
            return 0.0
        self._refill()
        self._tokens -= count
        return self._debt_seconds()

    async def take(self, count: int) -> None:
        """Wait until earlier bytes are paid for, then take `count`; senders are served in order."""
        if self._rate is None:
            return
        async with self._lock:
            await self._wait_off_debt()
            self.spend(count)

    async def _wait_off_debt(self) -> None:
        started = self._now()
        while self._rate is not None:
            self._refill()
            seconds = self._debt_seconds()
            if seconds <= 0:
                break
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue
        self.throttled_seconds += self._now() - started

    def _refill(self) -> None:
        now = self._now()
        if self._rate is not None:
            self._tokens = min(self._tokens + (now - self._refilled_at) * self._rate, self._burst())
        self._refilled_at = now

    def _burst(self) -> float:
        return (self._rate or 0) * BURST_SECONDS

    def _debt_seconds(self) -> float:
        return -self._tokens / self._rate if self._rate and self._tokens < 0 else 0.0
