"""What metrics are made of: a task's live counters, and the figures of the moment beside them."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field

from engine.replay.target_session import TargetSession
from engine.spool.spool import Spool
from engine.stats import LineStats, ReaderStats
from engine.supervision.troubles import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReading:
    """One line. stats: its own counters, not a copy. lag_seconds: age of the oldest unconfirmed bytes.

    spool_bytes: held, in memory or in files; spool_memory_bytes: of these in memory. is_owing: an expiry on the target is
    not yet that of the source.
    """

    line: str
    stats: LineStats
    lag_seconds: float
    spool_bytes: int
    spool_memory_bytes: int
    is_spool_blocked: bool
    is_source_up: bool
    is_target_up: bool
    is_owing: bool


def read_line(
    line: str,
    stats: LineStats,
    spool: Spool,
    up: Collection[Side],
    lag_seconds: float,
    is_owing: bool,
) -> LineReading:
    """Put a line's figures together. up: the sides whose connection stands."""
    return LineReading(
        line=line,
        stats=stats,
        lag_seconds=lag_seconds,
        spool_bytes=spool.held_bytes,
        spool_memory_bytes=spool.memory_bytes_held,
        is_spool_blocked=spool.blocked is not None,
        is_source_up=Side.SOURCE in up,
        is_target_up=Side.TARGET in up,
        is_owing=is_owing,
    )


def lag_of(session: TargetSession | None, spool: Spool) -> float:
    """Seconds since the oldest bytes came that the target has not confirmed; 0.0 when there are none."""
    oldest = None if session is None else session.delivery.oldest_received_seconds
    if oldest is None and spool.held_bytes:
        oldest = spool.oldest_received_seconds
    return 0.0 if oldest is None else max(0.0, time.monotonic() - oldest)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReading:
    """One task.

    state, phase: see states.py. progress_ratio: of the snapshot, 0–1. lines: none before it connects. reader: what stands
    for a source that serves no replicas.
    """

    task_id: str
    state: str
    phase: str = "handshake"
    progress_ratio: float = 0.0
    bandwidth_limit_bytes_per_second: int | None = None
    throttled_seconds: float = 0.0
    spool_memory_limit_bytes: int = 0
    spool_disk_limit_bytes: int = 0
    lines: tuple[LineReading, ...] = ()
    reader: ReaderStats = field(default_factory=ReaderStats)
