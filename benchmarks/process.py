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
from engine.demo.child import OPTION_PREFIX

CHILD = Path(__file__).with_name("child.py")
POLL_SECONDS = 0.01
SAMPLE_SECONDS = 0.02
STOP_TIMEOUT_SECONDS = 20.0


@cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="redis-ferry-bench-bytecode-")  # until the exit


def _environment(state: Path) -> dict[str, str]:
    """Ours without redis-ferry's options, with its files in `state`, and with bytecode kept between runs.

    Bytecode is there where redis-ferry is installed.
    """
    kept = {it: value for it, value in os.environ.items() if not it.startswith(OPTION_PREFIX)}
    environment = {
        **kept,
        "PYTHONPYCACHEPREFIX": _bytecode().name,
        "XDG_STATE_HOME": str(state),
    }
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
        """Start `command` in `root`. peak_own_bytes: of memory that is no file's, sampled by `wait`."""
        self.peak_own_bytes = 0
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
                env=_environment(folder / "state"),
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def children(self) -> list[int]:
        """Process ids of what child.py has started: the command itself."""
        pid = self._process.pid
        return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_so_far(self) -> float:
        """Seconds of CPU that the command has used."""
        (pid,) = self.children()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def output(self) -> str:
        """Everything on its stdout so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout_seconds: float) -> Usage:
        """Wait for its end, and look at its memory meanwhile.

        Raises:
            ChildError: an exit status other than 0, or none within `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                self._process.wait(SAMPLE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise ChildError(
                        f"not finished after {timeout_seconds:g} s: {self._tail()}"
                    ) from None
            self._sample_memory()
        usage = self._usage()
        if usage.exit_status != 0:
            raise ChildError(f"exit status {usage.exit_status}: {self._tail()}")
        return usage

    def _sample_memory(self) -> None:
        """Its own memory, without the files that it has mapped: these are the kernel's to take back."""
        try:
            (pid,) = self.children()
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except (OSError, ValueError):  # it has not begun, or has just ended
            return
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                own = int(line.split()[1]) * 1024
                self.peak_own_bytes = max(self.peak_own_bytes, own)

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


def require_compiled(root: Path) -> None:
    """See to it that redis-ferry in the tree `root` is that tree's own, and compiled.

    Raises:
        ChildError: it is not; the figures would be those of something else.
    """
    code = "from engine import codec; print(codec.COMPILED, codec.__file__)"
    # As ferry_command is started: the tree in the working directory comes first.
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    expected = f"True {root / 'engine' / 'codec' / '__init__.py'}"
    if done.stdout.strip() != expected:
        raise ChildError(
            f"the codec of {root} is not compiled or not its own: {done.stdout.strip() or done.stderr.strip()}; "
            "build it there: python setup.py build_ext --inplace"
        )


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
