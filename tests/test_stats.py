"""Counters that the stages own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import stats
from engine.stats import LatencyHistogram, LineStats, Rate

BUCKET = 1.1  # each is a tenth wider than the one before


@given(
    seconds=st.lists(st.floats(1e-5, 800), min_size=1, max_size=200),
    share=st.floats(0.01, 1),
)
def test_a_quantile_is_at_most_a_bucket_above_the_true_one(
    seconds: list[float], share: float
) -> None:
    histogram = LatencyHistogram()
    for it in seconds:
        histogram.add(it)

    # The smallest value with at least `share` of all at or below it.
    true = next(it for n, it in enumerate(sorted(seconds), 1) if n >= share * len(seconds))
    assert true / 1.001 <= histogram.quantile(share) <= true * BUCKET * 1.001


def test_weights_count_as_so_many_events() -> None:
    one, other = LatencyHistogram(), LatencyHistogram()
    one.add(0.001, 99)
    one.add(1.0)
    for _ in range(99):
        other.add(0.001)
    other.add(1.0)

    for share in (0.5, 0.99, 0.995):
        assert one.quantile(share) == other.quantile(share)
    assert one.total == other.total == 100


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 1e9])
def test_what_is_out_of_range_is_counted_at_the_edge(seconds: float) -> None:
    histogram = LatencyHistogram()

    histogram.add(seconds)

    assert histogram.total == 1
    assert 0 < histogram.quantile(0.5) < 3000


def test_without_events_a_quantile_is_zero() -> None:
    assert LatencyHistogram().quantile(0.99) == 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(stats.time, "monotonic", lambda: now[0])
    return now


def sampled(rate: Rate, clock: list[float], values: list[int]) -> float:
    for value in values:
        rate.sample(value)
        clock[0] += 1
    return rate.per_second()


def test_a_rate_is_the_growth_of_the_last_seconds(clock: list[float]) -> None:
    rate = Rate()

    assert sampled(rate, clock, [0, 10, 20, 30]) == 10
    assert sampled(rate, clock, [130, 230, 330, 430, 530, 630]) == 100


def test_a_counter_that_stands_still_has_no_rate(clock: list[float]) -> None:
    assert sampled(Rate(), clock, [0] + [1000] * 8) == 0


@pytest.mark.parametrize("values", [[], [5]])
def test_less_than_two_samples_make_no_rate(clock: list[float], values: list[int]) -> None:
    assert sampled(Rate(), clock, values) == 0.0


def test_two_samples_at_one_moment_make_no_rate(clock: list[float]) -> None:
    rate = Rate()
    rate.sample(1)
    rate.sample(2)

    assert rate.per_second() == 0.0


def test_lines_do_not_share_their_counters() -> None:
    one, other = LineStats(), LineStats()

    one.not_carried["x"] = 1
    one.apply_lag.add(1.0)

    assert other.not_carried == {}
    assert other.apply_lag.total == 0


@given(seconds=st.lists(st.floats(1e-5, 800), max_size=100), bound=st.floats(1e-4, 700))
def test_cumulative_counts_are_right_up_to_a_buckets_width(
    seconds: list[float], bound: float
) -> None:
    histogram = LatencyHistogram()
    for it in seconds:
        histogram.add(it)

    (found,) = histogram.cumulative([bound])
    assert sum(it < bound / BUCKET for it in seconds) <= found
    assert found <= sum(it <= bound * BUCKET for it in seconds)
    assert histogram.sum_seconds == pytest.approx(sum(seconds))
