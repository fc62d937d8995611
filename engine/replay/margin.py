"""How expiries are put off while the target is behind, so that none can come before its renewal. Pure.

A key whose time runs out on the target while the write that renews it is still on its way would be lost for good. So
while a line is behind, an expiry within the horizon is applied later by the margin; the source's own DEL removes the
key when it has really expired (db.c, propagateDeletion; expired keys are never deleted by a replica), and when the
line has caught up the true times are set (settlement.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

# Far more than the longest time a line may be behind; a key that is left with it goes away all the same.
MARGIN_MS = 30 * DAY_MS
# What expires later than this is caught up with by then.
HORIZON_MS = 7 * DAY_MS
# A line whose oldest bytes waited no longer counts as caught up.
LAG_SECONDS = 0.25

# A file's expiries may be years past and its keys may have been renewed since. This one (1,115 years) shows by itself
# which expiries have it, so that nobody need be asked; 2^48 is the latest that a field's expiry may be (t_hash.c).
FILE_MARGIN_MS = 1 << 45
FILE_HORIZON_MS = 1 << 44


def is_behind(
    now_seconds: float, received_seconds: float, oldest_block_seconds: float | None
) -> bool:
    """Whether bytes received at `received_seconds` come late to the target (all monotonic).

    oldest_block_seconds: when the oldest block that is on its way there was received, None if none is; it may be one of ours,
    younger than bytes that have waited in the spool.
    """
    oldest = min(received_seconds, oldest_block_seconds or received_seconds)
    return now_seconds - oldest > LAG_SECONDS


@dataclass(frozen=True, slots=True)
class Margin:
    """How expiries are put off.

    ms: by so much. is_own: every one is, and which ones are shows by itself: the source is a file.
    """

    ms: int = MARGIN_MS
    is_own: bool = False

    def horizon_ms(self) -> int:
        """The moment (ms since the epoch) before which an expiry gets the margin if the line is behind now."""
        return FILE_HORIZON_MS if self.is_own else int(time.time() * 1000) + HORIZON_MS

    def least_ms(self, margin_since_ms: int) -> int:
        """No expiry on the target that has a margin lies before this moment."""
        return self.ms if self.is_own else least_margined_ms(margin_since_ms)

    def true_ms(self, moment: int) -> int | None:
        """The expiry that stands at `moment` with a file's margin; None if it has none."""
        return moment - self.ms if self.ms <= moment < self.ms + FILE_HORIZON_MS else None


FILE_MARGIN = Margin(FILE_MARGIN_MS, is_own=True)


def least_margined_ms(margin_since_ms: int) -> int:
    """No expiry on the target that has a server's margin lies before this moment.

    margin_since_ms: when the line fell behind. An expiry was not yet past then; a day covers clocks that differ and
    bytes that had waited at the source.
    """
    return margin_since_ms + MARGIN_MS - DAY_MS
