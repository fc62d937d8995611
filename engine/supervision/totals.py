"""The lines of a task seen as one: its state, its totals, each line's own progress. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.stats import LatencyHistogram, LineStats, latest_of
from engine.supervision.states import TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStatus:
    """One line: a shard of the source, or the source itself. Offsets are those of its own stream."""

    name: str
    source: str
    state: str
    full_migration_progress: float
    source_offset: int
    read_offset: int
    applied_offset: int
    lag_bytes: int
    lag_seconds: float
    keys_applied: int
    commands_applied: int
    full_resyncs: int
    partial_resyncs: int
    error: str | None


def snapshot_progress(stats: LineStats) -> float:
    """0–100."""
    if stats.snapshot_is_applied:
        return 100.0
    if stats.snapshot_bytes_total:
        share = stats.snapshot_bytes_read / stats.snapshot_bytes_total
    elif stats.keys_expected:
        share = stats.keys_applied / stats.keys_expected
    else:
        share = 0.0
    return round(min(share * 100, 99.9), 2)


def state_of(states: Sequence[TaskState], have_streamed: Sequence[bool]) -> TaskState:
    """The task's state, from its lines': the one that is furthest behind, or in trouble, speaks.

    have_streamed: whether the line has been in the stream, so that connecting is recovering. A line that waits for its
    turn to make a snapshot does not hide that others are at it.
    """
    if len(states) == 1:
        return states[0]
    effective = [
        TaskState.RECOVERING if state is TaskState.CONNECTING and streamed else state
        for state, streamed in zip(states, have_streamed, strict=True)
    ]
    if TaskState.RECOVERING in effective:
        return TaskState.RECOVERING
    if all(it is TaskState.CONNECTING for it in effective):
        return TaskState.CONNECTING
    if TaskState.CONNECTING in effective or TaskState.SNAPSHOT in effective:
        return TaskState.SNAPSHOT
    return TaskState.STREAM


def total(stats: Sequence[LineStats]) -> LineStats:
    """All lines' counters added up; offsets and lags, too. A single line's own."""
    if len(stats) == 1:
        return stats[0]
    made = LineStats()
    for name in _SUMMED:
        setattr(made, name, sum(getattr(it, name) for it in stats))
    made.snapshot_is_applied = bool(stats) and all(it.snapshot_is_applied for it in stats)
    made.cross_slot = sum((it.cross_slot for it in stats), Counter())
    made.cross_slot_latest = latest_of(it.cross_slot_latest for it in stats)
    made.retries = sum((it.retries for it in stats), Counter())
    made.apply_lag = LatencyHistogram.joined(it.apply_lag for it in stats)
    for it in stats:
        for kind, number in it.not_carried.items():
            made.not_carried[kind] = made.not_carried.get(kind, 0) + number
    return made


def rates(stats: Iterable[LineStats]) -> tuple[float, float]:
    """Bytes and keys per second."""
    many = list(stats)
    return (
        sum(it.bytes_rate.per_second() for it in many),
        sum(it.keys_rate.per_second() for it in many),
    )


_SUMMED = (
    "source_offset", "read_offset", "applied_offset", "keys_applied", "keys_skipped", "keys_expected", "keys_filtered",
    "commands_applied", "commands_filtered", "bytes_applied", "snapshot_bytes_read", "snapshot_bytes_total", "full_resyncs",
    "partial_resyncs", "reconnects", "errors", "flushes", "source_reconnects", "target_reconnects",
    "spool_disk_bytes", "spool_spilled_bytes", "spool_recovered_bytes", "checkpoint_skipped_bytes",
    "leftovers_removed", "keys_fetched_again", "refused", "bridged", "big_values", "cross_slot_split", "cross_slot_resolved",
    "keys_in_doubt", "keys_resolved", "slot_waits", "topology_changes", "slot_commands_skipped",
)  # fmt: skip
