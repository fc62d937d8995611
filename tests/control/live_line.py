"""The command line as programs on one pair of real servers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.demo.servers import RunningServer
from tests.control import command_line


class Line:
    """The command line with one spool folder and one pair of servers."""

    def __init__(self, spool_dir: Path, source: RunningServer, target: RunningServer) -> None:
        self.spool_dir = spool_dir
        self.folder = spool_dir / "t1"
        self.source, self.target = source, target
        self._fixed = {"REDIS_FERRY_SPOOL_DIR": str(spool_dir)}

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return command_line.run(*arguments, typed=typed, **self._fixed)

    def tasks(self, *arguments: str, on_target: bool = False, typed: str = "") -> Any:
        """Run and return what it printed as JSON; it must end well."""
        result = self.on_tasks(*arguments, "--format", "json", on_target=on_target, typed=typed)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def on_tasks(
        self, *arguments: str, on_target: bool = False, typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        ending = ("--target", self.target.url) if on_target else ()
        return self.run("tasks", *arguments, *ending, typed=typed)

    @contextmanager
    def syncing(self, *options: str) -> Iterator[Child]:
        given = ("sync", self.source.url, self.target.url, "--task-id", "t1", "--progress", "json")
        with command_line.start(*given, *options, **self._fixed) as process:
            try:
                yield Child(process)
            finally:
                process.kill()


class Child:
    """A running `sync`, seen through its progress."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def until(self, is_so: Any, what: str) -> dict[str, Any]:
        """Read its progress until `is_so(status)`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            status: dict[str, Any] = json.loads(line)
            if is_so(status):
                return status
        pytest.fail(f"it ended before {what}: {self.process.communicate()[1]}")

    def streams(self) -> dict[str, Any]:
        return self.until(lambda it: it["state"] == "stream", "the stream")

    def rate_over(self, seconds: float) -> float:
        """Bytes a second over a window of its own figures."""
        first = self.until(lambda _: True, "a status")
        last = self.until(lambda it: it["ts"] - first["ts"] >= seconds, "the window's end")
        return float(last["bytes_applied"] - first["bytes_applied"]) / (last["ts"] - first["ts"])
