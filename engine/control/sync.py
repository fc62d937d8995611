"""One migration in the foreground: signals, progress, the last words, the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from dataclasses import replace
from typing import NoReturn

import structlog

from engine.control.choices import LogFormat, ProgressMode
from engine.control.control_socket import ControlSocket
from engine.control.exit_status import exit_status
from engine.control.failure import message_of, print_failure, root_cause, write_stderr
from engine.control.options import SyncOptions
from engine.control.progress import make_reporter
from engine.control.progress_thread import ProgressThread
from engine.control.versions import warn_if_interpreted
from engine.control.wording import summary
from engine.observability.logs import bind_task
from engine.observability.metrics_server import MetricsServer
from engine.preflight.gate import refuse_or_warn
from engine.supervision.states import FINAL_STATES, TaskState, phase_in
from engine.supervision.status import TaskStatus
from engine.supervision.task import Task

log = structlog.get_logger("engine.control.sync")

# Half of what the contract promises (one a second), so that a busy loop does not break the promise.
STATUS_INTERVAL_SECONDS = 0.5
CANCEL_TIMEOUT_SECONDS = 1.0  # for clean-up after a stop that is no longer graceful
LAST_STATUS_TIMEOUT_SECONDS = 2.0  # for a slow reader of stdout


class Interruption:
    """SIGINT and SIGTERM: the first asks for a graceful stop in time, the second for an end."""

    def __init__(self, task: Task, stop_timeout_seconds: float) -> None:
        self.at_once = asyncio.Event()
        self._task = task
        self._stop_timeout_seconds = stop_timeout_seconds
        self._is_stopping = False

    def install(self) -> None:
        """Take both signals from now on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.on_signal, number)

    def on_signal(self, number: signal.Signals) -> None:
        """Take one signal."""
        if self._is_stopping:
            log.warning("stop.at_once", signal=number.name)
            self.at_once.set()
            return
        self._is_stopping = True
        log.info("stop.requested", signal=number.name, timeout_seconds=self._stop_timeout_seconds)
        asyncio.get_running_loop().call_later(self._stop_timeout_seconds, self._give_up)
        self._task.request_stop()

    def _give_up(self) -> None:
        log.warning("stop.timed_out", timeout_seconds=self._stop_timeout_seconds)
        self.at_once.set()


async def run_sync(options: SyncOptions) -> int:
    """Run the task to its end. Returns the exit status; errors have been printed."""
    settings = options.task
    bind_task(settings.task_id)
    for warning in options.warnings:
        log.warning("option", message=warning)
    warn_if_interpreted()
    task = Task(settings, reader=options.reader)
    interruption = Interruption(task, settings.stop_timeout_seconds)
    interruption.install()
    # What stands at the start stays: a full collection in mid-stream would look at all of it for some 100 ms.
    gc.collect()
    gc.freeze()
    progress = ProgressThread(make_reporter(options.progress))

    def show_change(state: TaskState) -> None:
        # A final state is shown once, by close, when its figures are final too.
        if state not in FINAL_STATES:
            status = task.status()
            # Two quick changes: the callback is for the first, the status may show the second.
            shown = status if status.state == state else _in_state(status, state)
            progress.offer(shown, is_change=True)

    task.on_state_change(show_change)
    log.info(
        "sync.started",
        source=settings.source.address,
        target=settings.target.address,
        method=settings.method.value,
    )
    started = time.monotonic()
    running = asyncio.create_task(_run(task, options), name=f"task {settings.task_id}")
    showing = asyncio.create_task(_show_regularly(task, progress), name="progress")
    cutting = asyncio.create_task(interruption.at_once.wait(), name="interruption")
    try:
        await asyncio.wait({running, cutting}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
            await asyncio.wait({running}, timeout=CANCEL_TIMEOUT_SECONDS)
    finally:
        showing.cancel()
        cutting.cancel()

    error = _error_of(running)
    last = _last_status(task, running, error)
    status = exit_status(
        error,
        wrote_to_target=task.wrote_to_target,
        finished=last.state == TaskState.DONE,
    )
    was_taken = progress.close(last, LAST_STATUS_TIMEOUT_SECONDS)
    log.info("sync.finished", state=last.state, exit_status=status)
    if error is not None:
        print_failure(error, json_lines=options.log_format is LogFormat.JSON)
    elif last.error is not None:
        write_stderr(f"error: {last.error}")
    if error is None and options.progress in {ProgressMode.AUTO, ProgressMode.PLAIN}:
        write_stderr(
            summary(
                last,
                source=settings.source.address,
                target=settings.target.address,
                seconds=time.monotonic() - started,
            )
        )
    if not running.done() or not was_taken:
        # A clean-up that hangs, or a thread in a write that nobody reads: both would hold the exit.
        _leave_now(status)
    return status


async def _run(task: Task, options: SyncOptions) -> None:
    """The task with what stands around it: the check before, metrics and the control socket beside."""
    async with _metrics(task, options), ControlSocket(task, options.task):
        await refuse_or_warn(options.task)
        await task.run()


def _metrics(task: Task, options: SyncOptions) -> contextlib.AbstractAsyncContextManager[object]:
    if options.metrics_listen is None:
        return contextlib.nullcontext()
    host, port = options.metrics_listen
    return MetricsServer(host, port, lambda: [task.reading()])


async def _show_regularly(task: Task, progress: ProgressThread) -> None:
    while True:
        progress.offer(task.status())
        await asyncio.sleep(STATUS_INTERVAL_SECONDS)


def _error_of(running: asyncio.Task[None]) -> BaseException | None:
    if not running.done() or running.cancelled():
        return None
    error = running.exception()
    return None if error is None else root_cause(error)


def _last_status(
    task: Task, running: asyncio.Task[None], error: BaseException | None
) -> TaskStatus:
    status = task.status()
    if error is not None:
        return replace(_in_state(status, TaskState.FAILED), error=message_of(error))
    if not running.done() or running.cancelled():
        return replace(
            _in_state(status, TaskState.STOPPED),
            error="stopped before everything in flight was applied",
        )
    return status


def _in_state(status: TaskStatus, state: TaskState) -> TaskStatus:
    return replace(status, state=state.value, phase=phase_in(state, status.phase))


def _leave_now(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
