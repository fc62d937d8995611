"""After a failure: what is tried again and what is not, and how long is waited."""

from __future__ import annotations

import random

import pytest

from engine import errors
from engine.errors import EngineError
from engine.settings import ResumeMode
from engine.supervision.recovery import (
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    Decision,
    after_error,
    delay_seconds,
)

RETRIED = {
    "CorruptRdb",
    "SourceLinkLost",
    "SourceNotReady",
    "TargetLinkLost",
    "CheckpointMoved",
    "SpoolDamaged",
    "StreamOutOfStep",
}
RETRIED_ONCE_IT_RAN = {"SourceUnreachable", "TargetUnreachable", "TargetNotReady"}
KINDS = sorted(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, EngineError)
)


def make(name: str) -> EngineError:
    kind = getattr(errors, name)
    if name == "TargetRejected":
        return kind("x", command="SET", key=b"k", reply="ERR", offset=1)
    return kind("x", offset=1) if name == "StreamOutOfStep" else kind("x")


@pytest.mark.parametrize("has_run", [False, True], ids=["new", "has-run"])
@pytest.mark.parametrize("name", KINDS)
def test_only_a_link_that_broke_is_tried_again(name: str, has_run: bool) -> None:
    is_retried = name in RETRIED or (has_run and name in RETRIED_ONCE_IT_RAN)

    decision = after_error(make(name), ResumeMode.AUTO, has_run=has_run)

    assert decision is (Decision.RETRY if is_retried else Decision.STOP)


def test_a_target_that_is_loading_is_waited_for_from_the_start() -> None:
    loading = errors.TargetNotReady("x", code="LOADING")

    assert after_error(loading, ResumeMode.AUTO, has_run=False) is Decision.RETRY
    assert after_error(loading, ResumeMode.MANUAL, has_run=True) is Decision.STOP


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_tried_again_in_manual_mode(name: str) -> None:
    assert after_error(make(name), ResumeMode.MANUAL, has_run=True) is Decision.STOP


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 0.2), (2, 0.4), (3, 0.8), (5, 3.2), (8, 25.6), (9, 30.0), (20, 30.0), (10**9, 30.0)],
)
def test_the_delay_doubles_up_to_half_a_minute_with_jitter(attempt: int, longest: float) -> None:
    rng = random.Random(attempt)

    delays = [delay_seconds(attempt, rng) for _ in range(200)]

    assert longest * 0.75 <= min(delays) < longest * 0.8
    assert longest * 0.95 < max(delays) <= longest


def test_the_first_delay_is_short_and_the_longest_bearable() -> None:
    assert FIRST_DELAY_SECONDS <= 1
    assert LONGEST_DELAY_SECONDS <= 60


def test_the_third_corrupt_snapshot_in_a_row_is_the_last() -> None:
    decisions = [
        after_error(errors.CorruptRdb("x"), ResumeMode.AUTO, has_run=True, corrupt_snapshots=number)
        for number in (1, 2, 3, 4)
    ]

    assert decisions == [Decision.RETRY, Decision.RETRY, Decision.STOP, Decision.STOP]


def test_a_cluster_is_asked_again_soon_for_half_a_minute() -> None:
    rng = random.Random(1)
    waited = [delay_seconds(attempt, rng, is_cluster=True) for attempt in range(1, 400)]

    assert max(waited[:200]) <= 0.15
    assert sum(waited[:200]) > 20
    assert 0.37 < min(waited[200:]) <= max(waited[200:]) <= 0.5
