"""The worker as a child process: `redis-ferry sync` with its progress read, killed, paused and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

from tests.control.command_line import COMMAND, environment

DEADLINE_SECONDS = 60.0
PATIENCE_SECONDS = 180.0  # many processes, and maybe other tests, on two cores
END_SECONDS = 20.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
COUNTERS = (
    "full_resyncs",
    "partial_resyncs",
    "reconnects",
    "source_reconnects",
    "target_reconnects",
    "spool_recovered_bytes",
    "checkpoint_skipped_bytes",
    "leftovers_removed",
    "keys_fetched_again",
    "keys_resolved",
    "cross_slot_resolved",
    "cross_slot_split",
    "slot_waits",
    "topology_changes",
    "slot_commands_skipped",
    "errors",
)
HIGHEST = ("spool_disk_bytes", "spool_bytes", "lag_bytes")

Status = dict[str, Any]


class Worker:
    """One task's worker, run as often as it takes with the same command.

    status: the last progress object of the current run; {} before the first. runs: how often it was started.
    totals: the counters' sums over all ended runs and the current one, each as last seen: what happens in the last
    moment before a kill is not counted. highest: the largest figures seen in any run. stderr goes to `log_path`.
    wrapper: a command that runs the worker's command, given behind it, in its own place.
    """

    def __init__(
        self,
        source_url: str,
        target_url: str,
        folder: Path,
        *options: str,
        task_id: str = "t1",
        wrapper: Sequence[str] = (),
    ) -> None:
        self.spool_dir = folder / "spool"
        self.log_path = folder / "worker.log"
        self.runs = 0
        self.highest: Counter[str] = Counter()
        self._command = [
            *wrapper,
            sys.executable,
            *COMMAND,
            "sync",
            source_url,
            target_url,
            f"--task-id={task_id}",
            f"--spool-dir={self.spool_dir}",
            "--progress=json",
            *options,
        ]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._changed = threading.Condition()
        self._status: Status = {}
        self._ended: Counter[str] = Counter()
        self._is_read = False

    # ---- its life

    def start(self, *more_options: str) -> Self:
        """Run the command; the run before must have ended."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        with self._changed:
            self._ended = self.totals
            self._status = {}
            self._is_read = True
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *more_options],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.runs += 1
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="worker progress", daemon=True
        )
        self._reader.start()
        return self

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._running.kill()
        self.wait_for_end()

    def pause(self) -> None:
        """SIGSTOP, and wait until it stands."""
        self._running.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + END_SECONDS
        while self._state() != "T":
            assert time.monotonic() < deadline, "not stopped"
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT."""
        self._running.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; the exit status of the graceful end."""
        self._running.terminate()
        return self.wait_for_end()

    def wait_for_end(self, deadline_seconds: float = END_SECONDS) -> int:
        """The exit status; afterwards `status` is the last that it wrote."""
        exit_status = self._running.wait(deadline_seconds)
        assert self._reader is not None
        self._reader.join(END_SECONDS)
        return exit_status

    def close(self) -> None:
        """End it, whatever it does."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what it shows

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the current run."""
        return self._running.pid

    @property
    def status(self) -> Status:
        """The newest progress object."""
        return self._status

    @property
    def totals(self) -> Counter[str]:
        """Sums over all runs."""
        now = self._status
        return self._ended + Counter({name: int(now.get(name) or 0) for name in COUNTERS})

    @property
    def rss_bytes(self) -> int:
        """Memory of the process now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * PAGE_BYTES

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory that the current run has had."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = [it for it in text.splitlines() if it.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    @property
    def open_files(self) -> int:
        """File handles of the process now."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def messages(self) -> str:
        """Everything that all runs have written to stderr."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_for(
        self,
        is_true: Callable[[Status], Any],
        what: str,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Status:
        """Wait until a progress object of this run fulfils the condition, and return it.

        Fails when the deadline passes or the process ends before.
        """
        deadline = time.monotonic() + deadline_seconds
        with self._changed:
            while not (self._status and is_true(self._status)):
                left = deadline - time.monotonic()
                assert left > 0, f"not within {deadline_seconds:g} s: {what}; {self._summary()}"
                assert self._is_read, f"it ended before {what}; {self._summary()}"
                self._changed.wait(left)
            return self._status

    def has_met(self, *counters: str, since: Status) -> Status:
        """Wait until each of these has grown in this run, of which `since` is an earlier progress object ({}: its start).

        Call it before a kill: what a fault has led to would not be seen.
        """
        least = {name: since.get(name, 0) for name in counters}
        return self.wait_for(
            lambda it: all(it[name] > had for name, had in least.items()),
            f"the fault is met: more than {least}",
            deadline_seconds=PATIENCE_SECONDS,
        )

    def applies(self, offset: int, *, deadline_seconds: float = DEADLINE_SECONDS) -> Status:
        """Wait until the snapshot and the stream up to `offset` are applied."""
        return self.wait_for(
            lambda it: it["state"] == "stream" and it["applied_offset"] >= offset,
            f"offset {offset} is applied",
            deadline_seconds=deadline_seconds,
        )

    def _summary(self) -> str:
        tail = "\n".join(self.messages().splitlines()[-12:])
        return f"run {self.runs}, status {json.dumps(self._status)}\n{tail}"

    @property
    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "it has not been started"
        return self._process

    def _state(self) -> str:
        text = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        return text.rsplit(")", 1)[1].split()[0]

    def _read(self, stdout: IO[str]) -> None:
        with stdout:
            for line in stdout:
                # A kill may cut the last line short.
                with contextlib.suppress(json.JSONDecodeError), self._changed:
                    self._status = json.loads(line)
                    for name in HIGHEST:
                        value = int(self._status.get(name) or 0)
                        self.highest[name] = max(self.highest[name], value)
                    self._changed.notify_all()
        with self._changed:
            self._is_read = False
            self._changed.notify_all()
