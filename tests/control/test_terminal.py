"""What a person at a terminal sees: bars, and only the log lines that matter, each in one piece."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.control import command_line

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
PIECE_BYTES = 4096


def shown_at_a_terminal(script: str, *options: str, **variables: str) -> str:
    """Everything that a run writes to the terminal, until it ends."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, *command_line.SCRIPTED, "sync", "redis://a", "redis://b", *options],
            env=command_line.environment(SCRIPT=script, TERM="xterm", **variables),
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        ) as child:
            os.close(theirs)
            written = b""
            try:
                while piece := os.read(ours, PIECE_BYTES):
                    written += piece
            except OSError:  # Linux says EIO when the other side is closed
                pass
            assert child.wait(timeout=10) == 0
    finally:
        os.close(ours)
    return written.decode()


def test_bars_stand_alone_unless_a_level_is_asked_for() -> None:
    assert "sync.started" not in shown_at_a_terminal("done")
    assert "sync.started" in shown_at_a_terminal("done", "--log-level", "info")
    assert "sync.started" in shown_at_a_terminal("done", REDIS_FERRY_LOG_LEVEL="info")
    assert "sync.started" in shown_at_a_terminal("done", "--progress", "plain")


def test_warnings_are_shown_around_bars() -> None:
    assert "codec.interpreted" in shown_at_a_terminal("done", COMPILED="no")


def test_a_log_line_longer_than_the_terminal_is_one_line() -> None:
    shown = shown_at_a_terminal("done", "--log-level", "info")

    (line,) = re.findall(r"[^\r\n]*sync\.started[^\r\n]*", shown)
    assert len(line) > 100
    assert re.search(r"method=incremental task=a-6379-to-b-6379-[0-9a-f]{8}$", line)
