"""Measured child processes: redis-ferry itself and other tools, through child.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from benchmarks.options import PROJECT_ROOT

CHILD = Path(__file__).with_name("child.py")
POLL_SECONDS = 0.01
STOP_TIMEOUT_SECONDS = 20.0


@cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="redis-ferry-bench-bytecode-")  # until the exit


def _environment() -> dict[str, str]:
    """Ours, but with bytecode kept between runs, as it is where redis-ferry is installed."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": _bytecode().name}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


class ChildError(Exception):
    """A measured process ended with an error; the text is the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process used from its start to its end. started_at: seconds since the epoch."""

    started_at: float
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_rss_bytes: int
    voluntary_switches: int
    involuntary_switches: int
    exit_status: int

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.user_seconds + self.system_seconds

    def as_figures(self) -> dict[str, float]:
        """For the JSON: without the moment, which says nothing on another day."""
        figures: dict[str, float] = asdict(self)
        del figures["started_at"]
        return figures


class MeasuredProcess:
    """A command under child.py, in a directory of its own. `with` ends it if it still runs."""

    def __init__(self, command: Sequence[str], *, root: Path = PROJECT_ROOT) -> None:
        """Start `command` in `root`."""
        self._folder = tempfile.TemporaryDirectory(prefix="redis-ferry-bench-")
        folder = Path(self._folder.name)
        self._report = folder / "usage.json"
        self._output = folder / "stdout"
        self._errors = folder / "stderr"
        with self._output.open("wb") as out, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(CHILD), str(self._report), *command],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
                env=_environment(),
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def output(self) -> str:
        """Everything on its stdout so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout_seconds: float) -> Usage:
        """Wait for its end.

        Raises:
            ChildError: an exit status other than 0, or none within `timeout_seconds`.
        """
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise ChildError(f"not finished after {timeout_seconds:g} s: {self._tail()}") from None
        usage = self._usage()
        if usage.exit_status != 0:
            raise ChildError(f"exit status {usage.exit_status}: {self._tail()}")
        return usage

    def stop(self) -> Usage:
        """SIGTERM to the command, and wait; any exit status will do."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                raise ChildError(f"did not stop on SIGTERM: {self._tail()}") from None
        return self._usage()

    def _usage(self) -> Usage:
        if not self._report.exists():
            raise ChildError(f"no report of its use: {self._tail()}")
        return Usage(**json.loads(self._report.read_text(encoding="utf-8")))

    def _tail(self) -> str:
        text = self._errors.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-8:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.is_running:
            # The group of its session: child.py and the command.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._folder.cleanup()


@dataclass(frozen=True, slots=True)
class FerryTimes:
    """Moments of a run, from its progress lines; seconds since its process started."""

    connecting: float  # its first connection
    snapshot: float  # the source answered PSYNC
    done: float


def ferry_command(source_url: str, target_url: str, *arguments: str) -> list[str]:
    """`python -m engine sync` with progress as JSON; to be run in the root of a tree."""
    command = [sys.executable, "-m", "engine", "sync", source_url, target_url]
    return [*command, "--progress", "json", "--log-level", "warning", *arguments]


def progress_lines(text: str) -> list[dict[str, Any]]:
    """The whole JSON lines of `text`."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def ferry_times(text: str, started_at: float) -> FerryTimes:
    """When a run entered its states. A state it never entered counts as the next one's moment."""
    lines = progress_lines(text)
    moments: dict[str, float] = {}
    for line in lines:
        moments.setdefault(line["state"], line["ts"] - started_at)
    done = moments.get("done", lines[-1]["ts"] - started_at)
    snapshot = moments.get("snapshot", done)
    return FerryTimes(moments.get("connecting", snapshot), snapshot, done)


def wait_for_state(process: MeasuredProcess, state: str, timeout_seconds: float) -> None:
    """Wait until a redis-ferry shows `state`.

    Raises:
        ChildError: it ended before, or not within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while not any(line["state"] == state for line in progress_lines(process.output())):
        if not process.is_running or time.monotonic() > deadline:
            process.wait(0.1)
            raise ChildError(f"never came to the state {state}")
        time.sleep(POLL_SECONDS)
