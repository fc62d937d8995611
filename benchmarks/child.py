"""Runs a command and writes what it used, as JSON: `python child.py REPORT COMMAND…`.

A process of its own, because on Linux a child's peak RSS starts at that of the process it was made by: the
benchmark itself holds data, this file only the interpreter. It imports nothing of the project.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run, wait, report; SIGTERM and SIGINT are passed on. Returns the command's exit status."""
    report_path, *command = sys.argv[1:]
    pid = 0

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if pid:
            os.kill(pid, number)

    with contextlib.suppress(OSError, AttributeError):  # Linux: do not outlive the benchmark
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    started = time.monotonic()
    started_at = time.time()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    ended = time.monotonic()
    report = {
        "started_at": started_at,  # seconds since the epoch
        "wall_seconds": ended - started,
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
        "voluntary_switches": usage.ru_nvcsw,
        "involuntary_switches": usage.ru_nivcsw,
        "exit_status": os.waitstatus_to_exitcode(status),
    }
    Path(report_path).write_text(json.dumps(report), encoding="utf-8")
    return 0 if report["exit_status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
