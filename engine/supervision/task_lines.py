"""The lines of one task: planned, run at the same time, watched, stopped together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from engine.background import end_tasks
from engine.control_client import raise_if_cancelled
from engine.errors import SourceNotReady
from engine.replay.token_bucket import TokenBucket
from engine.settings import ResumeMode, TaskSettings
from engine.source.snapshot_turns import SnapshotTurns
from engine.stats import LineStats
from engine.supervision.line import Line
from engine.supervision.line_plan import LinePlan
from engine.supervision.planning import SourceShards, plan_lines, settings_of_line
from engine.supervision.reading import LineReading
from engine.supervision.recovery import delay_seconds
from engine.supervision.shard_watch import ShardWatch
from engine.supervision.states import TaskState
from engine.supervision.totals import LineStatus, snapshot_progress, state_of

log = structlog.get_logger("engine.task")


@dataclass(slots=True)
class _Running:
    """A line, what it was made from, what it last told of itself."""

    plan: LinePlan
    stats: LineStats
    line: Line
    state: TaskState = TaskState.CONNECTING
    trouble: str | None = None
    has_streamed: bool = False


@dataclass(slots=True)
class TaskLines:
    """Use `run` once. on_change: called with the state of all of them together.

    A line that fails stops the others; its error is raised when they have ended.
    """

    settings: TaskSettings
    limiter: TokenBucket
    on_change: Callable[[TaskState], None]
    _lines: list[_Running] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _trouble: str | None = None
    _before: LineStats = field(default_factory=LineStats)

    # ---- what the task asks

    @property
    def stats(self) -> Sequence[LineStats]:
        """Of each line; one that is empty before there are any."""
        return [it.stats for it in self._lines] or [self._before]

    @property
    def wrote_to_target(self) -> bool:
        """Whether one of them changed the target."""
        return any(it.line.wrote_to_target for it in self._lines)

    @property
    def is_owing(self) -> bool:
        """Whether expiries on the target are not yet the source's."""
        return any(it.line.is_owing for it in self._lines)

    @property
    def is_resumed(self) -> bool:
        """Whether all of them went on from a checkpoint."""
        return bool(self._lines) and all(it.line.is_resumed for it in self._lines)

    @property
    def spool_bytes(self) -> int:
        """Received and not yet replayed."""
        return sum(it.line.spool_bytes for it in self._lines)

    @property
    def lag_seconds(self) -> float:
        """Of the line that is furthest behind."""
        return max((it.line.lag_seconds for it in self._lines), default=0.0)

    @property
    def trouble(self) -> str | None:
        """What keeps lines from running."""
        if len(self._lines) == 1:
            return self._lines[0].line.trouble
        texts = [f"line {it.plan.name}: {it.line.trouble}" for it in self._lines if it.line.trouble]
        return "; ".join(texts) or self._trouble

    @property
    def unfinished(self) -> str | None:
        """As Line.unfinished, of all."""
        return next((text for it in self._lines if (text := it.line.unfinished)), None)

    def observe(self) -> None:
        """Bring the counters that others keep into `stats`."""
        for it in self._lines:
            it.line.observe()

    def statuses(self) -> tuple[LineStatus, ...]:
        """Each line's own progress."""
        return tuple(
            LineStatus(
                name=it.plan.name,
                source=it.plan.place.endpoint.address,
                state=str(it.state),
                full_migration_progress=snapshot_progress(it.stats),
                source_offset=it.stats.source_offset,
                read_offset=it.stats.read_offset,
                applied_offset=it.stats.applied_offset,
                lag_bytes=max(0, it.stats.source_offset - it.stats.applied_offset),
                lag_seconds=round(it.line.lag_seconds, 6),
                keys_applied=it.stats.keys_applied - it.stats.keys_skipped,
                commands_applied=it.stats.commands_applied,
                full_resyncs=it.stats.full_resyncs,
                partial_resyncs=it.stats.partial_resyncs,
                error=it.line.trouble,
            )
            for it in self._lines
        )

    def readings(self) -> tuple[LineReading, ...]:
        """Each line's counters, for metrics."""
        return tuple(it.line.reading() for it in self._lines)

    def stop(self) -> None:
        """Graceful stop of all."""
        self._stop.set()
        for it in self._lines:
            it.line.stop()

    # ---- the run

    async def run(self) -> None:
        """Run all lines to their end.

        Raises:
            EngineError: that of the first line that failed.
        """
        shards = SourceShards(self.settings.spool.directory)
        plans = await self._plan(shards)
        if plans is None:
            return
        turns = SnapshotTurns(self.settings.cluster.snapshots_per_host)
        settings = settings_of_line(self.settings, len(plans))
        for plan in plans:
            self._lines.append(self._made(plan, settings, turns))
        self._lines[0].stats.retries.update(self._before.retries)
        if self._stop.is_set():
            self.stop()
        if len(plans) > 1:
            log.info("task.lines", lines={it.name: it.place.endpoint.address for it in plans})
        if plans[0].slots is None:
            await self._lines[0].line.run()
            return
        watch = ShardWatch(self.settings.source, shards)
        await self._run_all(watch)
        await watch.look_last()
        if not self._stop.is_set():
            shards.forget()

    def _made(self, plan: LinePlan, settings: TaskSettings, turns: SnapshotTurns) -> _Running:
        stats = LineStats()

        def on_state(state: TaskState, trouble: str | None) -> None:
            running.state, running.trouble = state, trouble
            running.has_streamed = running.has_streamed or state is TaskState.STREAM
            self._tell()

        line = Line(
            settings, plan=plan, turns=turns, stats=stats, limiter=self.limiter, on_state=on_state
        )
        running = _Running(plan, stats, line)
        return running

    def _tell(self) -> None:
        self.on_change(
            state_of([it.state for it in self._lines], [it.has_streamed for it in self._lines])
        )

    async def _plan(self, shards: SourceShards) -> list[LinePlan] | None:
        """Wait for a source cluster that was there before; None if a stop came first."""
        attempt, rng = 0, random.Random()  # noqa: S311 - jitter
        while not self._stop.is_set():
            try:
                return await plan_lines(self.settings, shards)
            except SourceNotReady as error:
                raise_if_cancelled()
                if self.settings.resume_mode is ResumeMode.MANUAL:
                    raise
                attempt += 1
                self._trouble = str(error)
                self._before.retries[type(error).__name__] += 1
                self.on_change(TaskState.RECOVERING)
                seconds = delay_seconds(attempt, rng)
                log.warning("source.retry", error=str(error), after_seconds=round(seconds, 2))
                try:
                    async with asyncio.timeout(seconds):
                        await self._stop.wait()
                except TimeoutError:
                    pass
        return None

    async def _run_all(self, watch: ShardWatch) -> None:
        tasks = [
            asyncio.create_task(it.line.run(), name=f"line {it.plan.name}") for it in self._lines
        ]
        watching = asyncio.create_task(watch.run(), name="watch-shards")
        failure: BaseException | None = None
        try:
            pending = {*tasks, watching}
            while failure is None and pending - {watching}:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                failure = next((it.exception() for it in done if it.exception()), None)
            if failure is not None:
                for running in self._lines:
                    running.line.stop()
                await asyncio.wait(tasks)
        finally:
            await end_tasks(watching, *tasks)
        if failure is not None:
            raise failure
