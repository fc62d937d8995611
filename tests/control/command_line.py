"""Runs the command line as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "engine")
SCRIPTED = ("-m", "tests.control.scripted_task")


def environment(**variables: str) -> dict[str, str]:
    """This process's variables without ours, and with `variables`; the children find this tree anywhere."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("REDIS_FERRY_")
    }
    fixed = {
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "80",
        "NO_COLOR": "1",
    }
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
