"""After a failure: try again, or stop for the operator. Pure."""

from __future__ import annotations

import random
from enum import Enum, auto

from engine.errors import (
    CheckpointMoved,
    CorruptRdb,
    EngineError,
    SourceLinkLost,
    SourceNotReady,
    SourceUnreachable,
    SpoolDamaged,
    StreamOutOfStep,
    TargetLinkLost,
    TargetNotReady,
    TargetUnreachable,
)
from engine.settings import ResumeMode

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0
# Of a cluster's lost primary; for half a minute, which is longer than most failovers take.
CLUSTER_DELAY_SECONDS = 0.15
CLUSTER_QUICK_ATTEMPTS = 200
CLUSTER_LATER_DELAY_SECONDS = 0.5


class Decision(Enum):
    """What supervision does about an error."""

    RETRY = auto()
    STOP = auto()


_LINK_ERRORS = (
    SourceLinkLost,
    SourceNotReady,
    TargetLinkLost,
    CheckpointMoved,
    SpoolDamaged,
    StreamOutOfStep,
)
# What has been received is of no use: the source is asked for it again.
DAMAGED = (SpoolDamaged, StreamOutOfStep, CorruptRdb)
# A snapshot may have been damaged on its way once; one that is so at its source would be for ever.
MOST_CORRUPT_SNAPSHOTS = 3
_WHEN_RUNNING = (SourceUnreachable, TargetUnreachable, TargetNotReady)


def after_error(
    error: EngineError, mode: ResumeMode, *, has_run: bool, corrupt_snapshots: int = 1
) -> Decision:
    """Decide.

    corrupt_snapshots: how many there have been one after the other, this one included.

    has_run: the task was connected on both sides before, so an address that does not answer is a server that
    is away and not a mistyped one.
    """
    if mode is ResumeMode.MANUAL:
        return Decision.STOP
    if isinstance(error, TargetNotReady) and error.code == "LOADING":
        return Decision.RETRY  # it will be there in a moment, also at the start
    if isinstance(error, CorruptRdb) and corrupt_snapshots < MOST_CORRUPT_SNAPSHOTS:
        return Decision.RETRY
    if isinstance(error, _LINK_ERRORS) or (has_run and isinstance(error, _WHEN_RUNNING)):
        return Decision.RETRY
    return Decision.STOP


def delay_seconds(attempt: int, rng: random.Random, *, is_cluster: bool = False) -> float:
    """How long to wait before try number `attempt` (from 1): doubles each time, with jitter of a quarter.

    is_cluster: a replica is promoted within seconds, and what has to be asked costs little.
    """
    # The exponent is bounded: a task may retry for weeks.
    full = min(FIRST_DELAY_SECONDS * 2.0 ** min(attempt - 1, 16), LONGEST_DELAY_SECONDS)
    if is_cluster:
        is_new = attempt <= CLUSTER_QUICK_ATTEMPTS
        full = min(full, CLUSTER_DELAY_SECONDS if is_new else CLUSTER_LATER_DELAY_SECONDS)
    return full * rng.uniform(0.75, 1.0)
