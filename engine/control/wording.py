"""A task's status in words, for people. Pure."""

from __future__ import annotations

from engine.quantities import byte_count, duration
from engine.supervision.status import TaskStatus


class Pace:
    """Rates and remaining time, from the looks it has been shown."""

    def __init__(self) -> None:
        self.commands_per_second = 0.0
        self.eta_seconds: float | None = None
        self._last: TaskStatus | None = None
        self._snapshot_start: TaskStatus | None = None

    def take(self, status: TaskStatus) -> None:
        """Take a newer status."""
        last = self._last
        if last is not None and status.ts > last.ts:
            gained = max(status.commands_applied - last.commands_applied, 0)
            self.commands_per_second = gained / (status.ts - last.ts)
        self._last = status
        self.eta_seconds = None
        if status.phase != "snapshot":
            self._snapshot_start = None
            return
        start = self._snapshot_start
        if start is None or status.full_migration_progress < start.full_migration_progress:
            self._snapshot_start = status
            return
        gained_percent = status.full_migration_progress - start.full_migration_progress
        if gained_percent > 0:
            left = 100.0 - status.full_migration_progress
            self.eta_seconds = left * (status.ts - start.ts) / gained_percent


def is_moving(status: TaskStatus) -> bool:
    """Whether its rates are of now: at and after a stop they are of a time that is over."""
    return status.state in {"snapshot", "stream"}


def snapshot_facts(status: TaskStatus, *, has_rates: bool) -> str:
    """Say how far the snapshot is, without its percentage and remaining time."""
    facts = f"{status.keys_applied:,} keys"
    if not has_rates:
        return facts
    if status.keys_per_second > 0:
        facts += f" ({status.keys_per_second:,.0f}/s)"
    return f"{facts}, {byte_count(status.bytes_per_second)}/s"


def stream_facts(status: TaskStatus, pace: Pace, *, has_rates: bool) -> str:
    """Say how far the target is behind, and how fast it goes."""
    facts = f"lag {byte_count(status.lag_bytes)}, {status.lag_seconds:.2f} s"
    if not has_rates:
        return facts
    rate = f"{pace.commands_per_second:,.0f} commands/s, {byte_count(status.bytes_per_second)}/s"
    return f"{facts}; {rate}"


def progress_line(status: TaskStatus, pace: Pace) -> str:
    """One line for the task's present phase."""
    has_rates = is_moving(status)
    if status.phase == "snapshot":
        line = f"{status.state} {status.full_migration_progress:5.1f} %  {snapshot_facts(status, has_rates=has_rates)}"
        if has_rates and pace.eta_seconds is not None:
            line += f", {duration(pace.eta_seconds)} left"
    elif status.phase == "stream":
        line = f"{status.state}  {stream_facts(status, pace, has_rates=has_rates)}"
    else:
        line = status.state
    if status.reconnects:
        line += f"  (reconnects: {status.reconnects})"
    return line


def summary(status: TaskStatus, *, source: str, target: str, seconds: float) -> str:
    """Several lines: what a run did. For the end of it."""
    per_second = status.keys_applied / seconds if seconds > 0 else 0.0
    keys = f"{status.keys_applied:,} ({per_second:,.0f}/s)"
    if status.keys_skipped:
        keys += f", {status.keys_skipped:,} skipped because the target had them"
    commands = f"{status.commands_applied:,}"
    if status.keys_filtered:
        keys += f", {status.keys_filtered:,} not to be taken along"
    if status.commands_filtered:
        commands += f", {status.commands_filtered:,} not to be taken along"
    resyncs = f"{status.full_resyncs} full, {status.partial_resyncs} partial"
    if status.resumed:
        resyncs += " (continued from the checkpoint)"
    lines = [
        f"{status.state}: {source} -> {target} in {duration(seconds)}",
        f"  keys       {keys}",
        f"  commands   {commands}",
        f"  bytes      {byte_count(status.bytes_applied)}",
        f"  resyncs    {resyncs}; {status.reconnects} reconnects",
        f"  lag        {status.lag_bytes:,} bytes, {status.lag_seconds:.3f} s",
    ]
    if status.apply_lag_p99_seconds > 0:
        lines[-1] += (
            f"; per command p50 {status.apply_lag_p50_seconds * 1000:.1f} ms, "
            f"p99 {status.apply_lag_p99_seconds * 1000:.1f} ms"
        )
    if status.state == "stopped":
        is_past_snapshot = status.full_migration_progress >= 100.0
        lines.append(
            "  the checkpoint is kept: the same command goes on from here"
            if is_past_snapshot
            else "  the snapshot was not complete: the same command starts it again"
        )
    return "\n".join(lines)
