"""What repeats is said less and less often, and says how often it was not said."""

from __future__ import annotations

from typing import Any

import structlog

from engine.observability.repeats import (
    FREE_REPEATS,
    LONGEST_PAUSE_SECONDS,
    REMEMBERED,
    Repeats,
)


class Log:
    """A clock, and the seconds at which a line passed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.repeats = Repeats(now=lambda: self.now)

    def passes(self, **facts: Any) -> dict[str, Any] | None:
        try:
            return dict(self.repeats(None, "warning", {"event": "source.retry"} | facts))
        except structlog.DropEvent:
            return None


def test_a_retry_every_half_minute_for_a_day_makes_some_hundred_lines_and_counts_all() -> None:
    log = Log()
    passed, counted = 0, 0
    for number in range(24 * 120):
        line = log.passes(error=f"refused after {number} s", after_seconds=number / 7)
        if line is not None:
            passed += 1
            counted += 1 + line.get("left_out", 0)
        log.now += 30

    assert 24 * 3600 / LONGEST_PAUSE_SECONDS <= passed < 170
    # The last ones are counted by the next line.
    assert 24 * 120 - LONGEST_PAUSE_SECONDS / 30 < counted <= 24 * 120


def test_a_burst_is_cut_short() -> None:
    log = Log()
    assert sum(log.passes(error="x") is not None for _ in range(1000)) == FREE_REPEATS + 1


def test_other_facts_are_another_trouble() -> None:
    log = Log()
    for _ in range(100):
        log.passes(error="refused", task="a")

    assert log.passes(error="refused", task="b") is not None
    assert log.passes(error="timed out", task="a") is not None
    assert log.passes(error="refused", task="a") is None


def test_what_was_quiet_for_long_is_new() -> None:
    log = Log()
    for _ in range(100):
        log.passes(error="x")
    log.now += LONGEST_PAUSE_SECONDS + 1

    again = [log.passes(error="x") for _ in range(FREE_REPEATS)]
    assert None not in again


def test_memory_is_bounded() -> None:
    log = Log()
    for number in range(5 * REMEMBERED):
        log.passes(error="x" * (number + 1))

    assert len(log.repeats._seen) == REMEMBERED
