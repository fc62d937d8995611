"""Late is what waited in the spool, and what would wait for the target; the older of the two tells."""

from __future__ import annotations

import pytest

from engine.replay.margin import LAG_SECONDS, is_behind

NOW = 1000.0
LATE = NOW - 2 * LAG_SECONDS
FRESH = NOW - LAG_SECONDS / 2


@pytest.mark.parametrize(
    ("received", "oldest_block", "expected"),
    [
        (FRESH, None, False),
        (FRESH, FRESH, False),
        (LATE, None, True),
        (FRESH, LATE, True),
        (LATE, FRESH, True),  # a block of ours is younger than what waits in the spool
    ],
)
def test_behind(received: float, oldest_block: float | None, expected: bool) -> None:
    assert is_behind(NOW, received, oldest_block) is expected
