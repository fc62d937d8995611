"""As PID 1 the service collects what others have left behind, and no child of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, ctypes, os, sys
import uvloop
from engine.control.orphans import collect_orphans

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) == 0

async def main():
    collecting = asyncio.create_task(collect_orphans(period_seconds=0.01))
    for _ in range(3):
        # Its own child starts another one, ends before it, and has its exit status.
        process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.05 & exit 7")
        assert await process.wait() == 7
    async with asyncio.timeout(20):
        while True:
            try:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # none is left, not even an ended one
                break
            await asyncio.sleep(0.01)
    assert not collecting.done()
    collecting.cancel()

uvloop.run(main())
print("all are collected")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a subreaper stands in for PID 1")
def test_orphans_are_collected_and_own_children_keep_their_status() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "all are collected\n", done.stderr
