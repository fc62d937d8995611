"""A task that plays a script instead of migrating: for tests of signals, progress and last words.

Run as a program it is `redis-ferry` with this task for the engine's; SCRIPT names the script.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import engine
from engine.errors import SourceUnreachable, TargetUnreachable
from engine.settings import TaskSettings
from engine.supervision.states import PHASES, TaskState, phase_in
from engine.supervision.status import TaskStatus


def make_status(**changes: object) -> TaskStatus:
    """Make a status with every field set; `changes` replaces some."""
    status = TaskStatus(
        ts=1_700_000_000.25,
        task_id="t1",
        state="snapshot",
        phase="snapshot",
        full_migration_progress=42.0,
        source_offset=50,
        read_offset=40,
        spooled_offset=30,
        applied_offset=20,
        lag_bytes=30,
        lag_seconds=0.5,
        keys_applied=1234,
        commands_applied=5678,
        bytes_applied=9_000_000,
        bytes_per_second=2.5 * 1024 * 1024,
        spool_bytes=10,
        reconnects=0,
        full_resyncs=1,
        partial_resyncs=0,
        errors=0,
        error=None,
    )
    return replace(status, **changes)  # type: ignore[arg-type]


class Task:
    """The interface of engine.supervision.task.Task."""

    def __init__(self, settings: TaskSettings, *, reader: object = None) -> None:
        del reader
        self.state = TaskState.CREATED
        self._phase = PHASES[TaskState.CREATED]
        self.wrote_to_target = False
        self.limits: list[int | None] = []
        self._settings = settings
        self._stop = asyncio.Event()
        self._callback: Callable[[TaskState], None] = lambda _state: None

    async def run(self) -> None:
        self._move(TaskState.CONNECTING)
        await asyncio.sleep(0.01)
        await {
            "done": self._done,
            "follow": self._follow,
            "refused": self._refused,
            "lost": self._lost,
            "bug": self._bug,
            "deaf": self._deaf,
            "hang": self._hang,
        }[os.environ["SCRIPT"]]()

    async def _done(self) -> None:
        self._move(TaskState.SNAPSHOT)
        self.wrote_to_target = True
        await asyncio.sleep(float(os.environ.get("SECONDS", "0.01")))
        self._move(TaskState.DONE)

    async def _follow(self) -> None:
        self._move(TaskState.SNAPSHOT)
        self._move(TaskState.STREAM)
        await self._stop.wait()
        self._move(TaskState.STOPPING)
        self._move(TaskState.STOPPED)

    async def _refused(self) -> None:
        raise SourceUnreachable(
            "cannot connect to source 127.0.0.1:1",
            detail="Connection refused",
            hint="check that the server runs",
        )

    async def _lost(self) -> None:
        self._move(TaskState.SNAPSHOT)
        self.wrote_to_target = True
        raise ExceptionGroup("pipeline", [TargetUnreachable("target is gone")])

    async def _bug(self) -> None:
        raise ZeroDivisionError("division by zero")

    async def _deaf(self) -> None:
        self._move(TaskState.STREAM)
        await asyncio.sleep(60)

    async def _hang(self) -> None:
        self._move(TaskState.STREAM)
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    def request_stop(self) -> None:
        self._stop.set()

    def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        self.limits.append(bytes_per_second)

    def status(self) -> TaskStatus:
        return make_status(
            ts=time.time(),
            task_id=self._settings.task_id,
            state=self.state.value,
            phase=self._phase,
        )

    def on_state_change(self, callback: Callable[[TaskState], None]) -> None:
        self._callback = callback

    def _move(self, state: TaskState) -> None:
        self.state = state
        self._phase = phase_in(state, self._phase)
        self._callback(state)


if __name__ == "__main__":
    module = types.ModuleType("engine.supervision.task")
    module.Task = Task  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    gate = types.ModuleType("engine.preflight.gate")

    async def refuse_or_warn(_settings: TaskSettings) -> None:
        """There are no servers to look at."""

    gate.refuse_or_warn = refuse_or_warn  # type: ignore[attr-defined]
    sys.modules[gate.__name__] = gate
    codec = types.ModuleType("engine.codec")
    codec.COMPILED = os.environ.get("COMPILED") != "no"  # type: ignore[attr-defined]
    codec.__path__ = [str(Path(engine.__file__).parent / "codec")]  # its modules are the real ones
    sys.modules[codec.__name__] = codec

    from engine.__main__ import main

    sys.exit(main())
