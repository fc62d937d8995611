"""One migration: its state, and what it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from engine.control_client import raise_if_cancelled
from engine.errors import EngineError
from engine.replay.token_bucket import TokenBucket
from engine.settings import TaskSettings
from engine.stats import ReaderStats
from engine.supervision.reading import TaskReading
from engine.supervision.states import FINAL_STATES, PHASES, TaskState, move, phase_in
from engine.supervision.status import TaskStatus
from engine.supervision.task_lines import TaskLines
from engine.supervision.totals import rates, snapshot_progress, total

log = structlog.get_logger("engine.task")


class Task:
    """Create, `run` once, read `status` at any time.

    reader: what stands for a source that serves no replicas counts there. state: see states.py. wrote_to_target: whether anything was sent that changes the target.
    """

    def __init__(self, settings: TaskSettings, *, reader: ReaderStats | None = None) -> None:
        self.settings = settings
        self._reader = reader or ReaderStats()
        self.state = TaskState.CREATED
        self.error: EngineError | None = None
        self._limiter = TokenBucket(settings.bandwidth_limit_bytes_per_second)
        self._lines = TaskLines(settings, self._limiter, on_change=self._on_lines_changed)
        self._listeners: list[Callable[[TaskState], None]] = []
        self._stop = asyncio.Event()
        self._phase = PHASES[TaskState.CREATED]

    @property
    def wrote_to_target(self) -> bool:
        """Whether this run changed the target; until then a refusal leaves everything as it was."""
        return self._lines.wrote_to_target

    def on_state_change(self, callback: Callable[[TaskState], None]) -> None:
        """Call `callback` with each new state, in the event loop."""
        self._listeners.append(callback)

    def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        """Change the limit of a running task; None lifts it."""
        self._limiter.set_rate(bytes_per_second)

    def request_stop(self) -> None:
        """Graceful stop: `run` finishes what is in flight, keeps the checkpoint and returns."""
        if self._stop.is_set() or self.state in FINAL_STATES:
            return
        self._stop.set()
        if self.state is not TaskState.CREATED:
            self._move(TaskState.STOPPING)
        self._lines.stop()

    async def run(self) -> None:
        """Migrate until done, stopped, or an error that cannot be recovered from (which is raised)."""
        if not self._stop.is_set():
            self._move(TaskState.CONNECTING)
            try:
                await self._lines.run()
            except EngineError as error:
                raise_if_cancelled()
                self.error = error
                self._move(TaskState.FAILED)
                raise
            except asyncio.CancelledError:
                self._stop.set()
                if self.state not in FINAL_STATES and self.state is not TaskState.STOPPING:
                    self._move(TaskState.STOPPING)
                self._move(TaskState.STOPPED)
                raise
        self._move(TaskState.STOPPED if self._stop.is_set() else TaskState.DONE)

    def status(self) -> TaskStatus:
        """A snapshot of everything the task shows."""
        lines = self._lines
        lines.observe()
        stats = total(lines.stats)
        bytes_per_second, keys_per_second = rates(lines.stats)
        return TaskStatus(
            ts=time.time(),
            task_id=self.settings.task_id,
            state=str(self.state),
            phase=self._phase,
            full_migration_progress=snapshot_progress(stats),
            source_offset=stats.source_offset,
            read_offset=stats.read_offset,
            spooled_offset=stats.read_offset,
            applied_offset=stats.applied_offset,
            lag_bytes=sum(max(0, it.source_offset - it.applied_offset) for it in lines.stats),
            lag_seconds=round(max(lines.lag_seconds, self._reader.lag_seconds), 6),
            keys_applied=stats.keys_applied - stats.keys_skipped,
            commands_applied=stats.commands_applied,
            bytes_applied=stats.bytes_applied,
            bytes_per_second=round(bytes_per_second, 1),
            spool_bytes=lines.spool_bytes,
            reconnects=stats.reconnects,
            full_resyncs=stats.full_resyncs,
            partial_resyncs=stats.partial_resyncs,
            errors=stats.errors,
            error=self._shown_error(),
            snapshot_bytes_read=stats.snapshot_bytes_read,
            snapshot_bytes_total=stats.snapshot_bytes_total,
            snapshot_keys_expected=stats.keys_expected,
            keys_skipped=stats.keys_skipped,
            keys_per_second=round(keys_per_second, 1),
            apply_lag_p50_seconds=round(stats.apply_lag.quantile(0.5), 6),
            apply_lag_p99_seconds=round(stats.apply_lag.quantile(0.99), 6),
            throttled_seconds=round(self._limiter.throttled_seconds, 3),
            resumed=lines.is_resumed,
            source_reconnects=stats.source_reconnects,
            target_reconnects=stats.target_reconnects,
            retries=dict(stats.retries),
            spool_disk_bytes=stats.spool_disk_bytes,
            spool_spilled_bytes=stats.spool_spilled_bytes,
            spool_recovered_bytes=stats.spool_recovered_bytes,
            checkpoint_skipped_bytes=stats.checkpoint_skipped_bytes,
            refused=stats.refused,
            bridged=stats.bridged,
            keys_filtered=stats.keys_filtered,
            commands_filtered=stats.commands_filtered,
            big_values=stats.big_values,
            leftovers_removed=stats.leftovers_removed,
            keys_fetched_again=stats.keys_fetched_again,
            expiries_owed=lines.is_owing,
            cross_slot_split=stats.cross_slot_split,
            cross_slot_resolved=stats.cross_slot_resolved,
            cross_slot=dict(stats.cross_slot),
            cross_slot_latest=tuple(it.as_dict() for it in stats.cross_slot_latest),
            keys_in_doubt=stats.keys_in_doubt,
            keys_resolved=stats.keys_resolved,
            slot_waits=stats.slot_waits,
            topology_changes=stats.topology_changes,
            slot_commands_skipped=stats.slot_commands_skipped,
            lines=lines.statuses(),
            source_reader=self._reader.name,
            scan_changes=self._reader.changes,
            scan_passes=self._reader.passes,
            scan_gaps=self._reader.gaps,
            scan_keys_read=self._reader.keys_read,
            scan_keys_changed=self._reader.keys_changed,
            scan_keys_deleted=self._reader.keys_deleted,
            scan_pending_keys=self._reader.pending_keys,
        )

    def reading(self) -> TaskReading:
        """What metrics are made of: cheaper than `status`, and by line."""
        return TaskReading(
            task_id=self.settings.task_id,
            state=str(self.state),
            phase=self._phase,
            progress_ratio=snapshot_progress(total(self._lines.stats)) / 100,
            bandwidth_limit_bytes_per_second=self._limiter.bytes_per_second,
            throttled_seconds=self._limiter.throttled_seconds,
            spool_memory_limit_bytes=self.settings.spool.memory_bytes,
            spool_disk_limit_bytes=self.settings.spool.disk_bytes,
            lines=self._lines.readings(),
            reader=self._reader,
        )

    def _shown_error(self) -> str | None:
        if self.error is not None:
            return str(self.error)
        if self.state is TaskState.STOPPED and (why := self._lines.unfinished):
            return f"stopped before the target had all that was read ({why}); the next run goes on from the checkpoint"
        return None if self.state in FINAL_STATES else self._lines.trouble

    def _on_lines_changed(self, state: TaskState) -> None:
        if not self._stop.is_set():
            self._move(state)

    def _move(self, wanted: TaskState) -> None:
        if wanted is self.state:
            return
        self.state = move(self.state, wanted)
        self._phase = phase_in(wanted, self._phase)
        log.debug("task.state", state=str(wanted))
        for listener in self._listeners:
            listener(wanted)
