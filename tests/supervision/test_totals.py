"""Several lines seen as one."""

from __future__ import annotations

import pytest

from engine.stats import LineStats
from engine.supervision.states import TaskState
from engine.supervision.totals import state_of, total

C, SNAP, STREAM, REC = (
    TaskState.CONNECTING,
    TaskState.SNAPSHOT,
    TaskState.STREAM,
    TaskState.RECOVERING,
)


@pytest.mark.parametrize(
    ("states", "streamed", "expected"),
    [
        ([C], [False], C),
        ([C, C], [False, False], C),
        ([SNAP, C], [False, False], SNAP),
        ([STREAM, C], [True, False], SNAP),
        ([STREAM, SNAP], [True, False], SNAP),
        ([STREAM, STREAM], [True, True], STREAM),
        ([STREAM, REC], [True, True], REC),
        ([STREAM, C], [True, True], REC),
    ],
)
def test_the_line_that_is_furthest_behind_speaks(
    states: list[TaskState], streamed: list[bool], expected: TaskState
) -> None:
    assert state_of(states, streamed) is expected


def test_counters_are_added_up() -> None:
    one, other = LineStats(applied_offset=5, keys_applied=2), LineStats(applied_offset=7)
    one.snapshot_is_applied = True
    one.retries["SourceLinkLost"] = 2
    one.apply_lag.add(0.5)
    other.apply_lag.add(0.5, 3)
    both = total([one, other])
    assert (both.applied_offset, both.keys_applied) == (12, 2)
    assert not both.snapshot_is_applied
    assert both.retries == {"SourceLinkLost": 2}
    assert both.apply_lag.total == 4
    assert total([one]) is one
