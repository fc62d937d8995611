"""Runs the command line as a child process."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile

# Tasks keep a folder under it; it goes when the tests end.
STATE_HOME = tempfile.TemporaryDirectory(prefix="redis-ferry-tests-")
atexit.register(STATE_HOME.cleanup)
COMMAND = ("-m", "engine")
SCRIPTED = ("-m", "tests.control.scripted_task")


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without ours, and with `variables`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("REDIS_FERRY_")
    }
    fixed = {"COLUMNS": "80", "NO_COLOR": "1", "XDG_STATE_HOME": STATE_HOME.name}
    return {**kept, **fixed, **variables}


def run(
    *arguments: str, program: tuple[str, ...] = COMMAND, typed: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run to the end. typed: what stands on its stdin."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=environment(**variables),
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def start(
    *arguments: str, program: tuple[str, ...] = COMMAND, **variables: str
) -> subprocess.Popen[str]:
    """Start, with pipes for both outputs."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
