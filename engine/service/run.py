"""One configured task at work: drives the engine's task and starts it again where only the service can."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from engine.background import end_tasks
from engine.errors import EngineError
from engine.service.figures import Figures, Gauge
from engine.settings import ResumeMode, TaskSettings
from engine.stats import ReaderStats
from engine.supervision.reading import TaskReading
from engine.supervision.recovery import Decision, after_error, delay_seconds
from engine.supervision.states import FINAL_STATES, TaskState
from engine.supervision.status import TaskStatus
from engine.supervision.task import Task

log = structlog.get_logger("engine.service")

LOOK_SECONDS = 1.0
_NOT_SHOWN = FINAL_STATES | {TaskState.STOPPING}  # the service says these itself


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended: STOPPED, DONE or FAILED, and then why."""

    state: TaskState
    figures: Figures
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Settings to run with instead, and the counters of what stands for the source in them."""

    settings: TaskSettings
    reader: ReaderStats


class Run:
    """Create, `start`, then `stop` or wait for `on_end`.

    has_run: this task was connected on both sides before (before a restart of the service), so that a server
    that does not answer is away and not mistyped. prepare: what is to be done first; may return other settings.
    on_state, on_end, on_figures: called in the event loop. on_end comes once, as the last.
    """

    def __init__(
        self,
        settings: TaskSettings,
        *,
        task_id: str,
        has_run: bool,
        on_state: Callable[[TaskState], None],
        on_figures: Callable[[Figures], None],
        on_end: Callable[[RunEnd], None],
        asks_source: bool = True,
        prepare: Callable[[], Awaitable[Prepared | None]] | None = None,
    ) -> None:
        self.settings = settings
        self._figures = Figures(is_migrating=True)
        self._look_now = asyncio.Event()
        self._task_id = task_id
        self._has_run = has_run
        self._on_state = on_state
        self._on_figures = on_figures
        self._on_end = on_end
        self._prepare = prepare
        self._reader: ReaderStats | None = None
        self._gauge = Gauge(
            settings.source if asks_source else None, settings.target, task_id=settings.task_id
        )
        self._task: Task | None = None
        self._stopping = asyncio.Event()
        self._halt_reason: str | None = None
        self._future: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._future = asyncio.create_task(self._drive(), name=f"run {self._task_id}")

    def status(self) -> TaskStatus | None:
        """The engine's status; None before it has begun."""
        return None if self._task is None else self._task.status()

    def reading(self) -> TaskReading | None:
        """The engine's counters; None before it has begun."""
        return None if self._task is None else self._task.reading()

    @property
    def figures(self) -> Figures:
        """Figures of this moment; the sizes are at most some LOOK_SECONDS old."""
        status = self.status()
        if status is None:
            return self._figures
        return replace(
            self._figures,
            full_migration_progress=status.full_migration_progress,
            offset=status.lag_bytes,
        )

    def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        """Change the limit; None lifts it."""
        self.settings = replace(self.settings, bandwidth_limit_bytes_per_second=bytes_per_second)
        if self._task is not None:
            self._task.set_bandwidth_limit(bytes_per_second)

    def set_resume_mode(self, mode: ResumeMode) -> None:
        """Change what follows a lost link, also one that is lost just now."""
        self.settings = replace(self.settings, resume_mode=mode)
        if (
            mode is ResumeMode.MANUAL
            and self._task is not None
            and self._task.state is TaskState.RECOVERING
        ):
            self._halt()

    def request_stop(self) -> None:
        """Ask for a graceful stop; `on_end` follows."""
        self._stopping.set()
        if self._task is not None:
            self._task.request_stop()

    async def stop(self) -> None:
        """Stop gracefully, after the engine's own time for it at once; returns when it has ended."""
        self.request_stop()
        if self._future is None:
            return
        await asyncio.wait({self._future}, timeout=self.settings.stop_timeout_seconds)
        if not self._future.done():
            log.warning("stop.timed_out", timeout_seconds=self.settings.stop_timeout_seconds)
            await end_tasks(self._future)

    async def wait(self) -> None:
        """Wait for the end, however it comes."""
        if self._future is not None:
            await asyncio.wait({self._future})

    # ---- the run

    async def _drive(self) -> None:
        structlog.contextvars.bind_contextvars(task=self._task_id)
        looking = asyncio.create_task(self._look_regularly(), name=f"figures {self._task_id}")
        state, error = TaskState.STOPPED, None
        try:
            state, error = await self._migrate()
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
        finally:
            await end_tasks(looking)
            with contextlib.suppress(Exception):
                await self._look(is_migrating=False)
            await self._gauge.close()
            self._on_end(RunEnd(state=state, error=error, figures=self._figures))

    async def _migrate(self) -> tuple[TaskState, str | None]:
        attempt = 0
        rng = random.Random()  # noqa: S311 - jitter
        if self._prepare is not None:
            try:
                prepared = await self._prepare()
            except EngineError as error:
                return TaskState.FAILED, str(error)
            if prepared is not None:
                now = self.settings  # the limit and the mode may have been changed meanwhile
                self.settings = replace(
                    prepared.settings,
                    bandwidth_limit_bytes_per_second=now.bandwidth_limit_bytes_per_second,
                    resume_mode=now.resume_mode,
                )
                self._reader = prepared.reader
        while not self._stopping.is_set():
            task = Task(self.settings, reader=self._reader)
            self._task = task
            task.on_state_change(self._note_state)
            try:
                await task.run()
            except EngineError as error:
                if self._stopping.is_set():
                    break
                if self._is_final(error):
                    return TaskState.FAILED, str(error)
                attempt += 1
                seconds = delay_seconds(attempt, rng)
                log.warning("task.retry", error=str(error), after_seconds=round(seconds, 2))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._stopping.wait()
                continue
            except Exception as error:
                log.exception("task.internal_error", error=repr(error))
                return TaskState.FAILED, f"internal error: {type(error).__name__}"
            if self._halt_reason is not None and not self._stopping.is_set():
                return TaskState.FAILED, self._halt_reason
            return task.state, None
        return TaskState.STOPPED, None

    def _is_final(self, error: EngineError) -> bool:
        decision = after_error(error, self.settings.resume_mode, has_run=self._has_run)
        return decision is Decision.STOP

    def _note_state(self, state: TaskState) -> None:
        if state in (TaskState.SNAPSHOT, TaskState.STREAM):
            self._has_run = True
        if state is TaskState.RECOVERING and self.settings.resume_mode is ResumeMode.MANUAL:
            # The engine started in auto mode; in manual mode a lost link is for the operator.
            asyncio.get_running_loop().call_soon(self._halt)
        self._look_now.set()
        if state not in _NOT_SHOWN:
            self._on_state(state)

    def _halt(self) -> None:
        task = self._task
        if task is not None and self._halt_reason is None:
            self._halt_reason = task.status().error or "the link was lost"
            task.request_stop()

    async def _look_regularly(self) -> None:
        while True:
            self._look_now.clear()
            await self._look(is_migrating=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_now.wait()

    async def _look(self, *, is_migrating: bool) -> None:
        status = self.status()
        if status is not None:
            self._figures = await self._gauge.look(status, is_migrating=is_migrating)
            self._on_figures(self._figures)
