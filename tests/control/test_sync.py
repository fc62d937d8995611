"""A run from start to exit status, with a scripted task: signals, progress, last words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.control import command_line

URLS = ("redis://a", "redis://b")
SECRET = "s3cr3t"


def run(script: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return command_line.run(
        "sync", *URLS, *options, program=command_line.SCRIPTED, SCRIPT=script, **variables
    )


def start(script: str, *options: str, **variables: str) -> subprocess.Popen[str]:
    return command_line.start(
        "sync", *URLS, *options, program=command_line.SCRIPTED, SCRIPT=script, **variables
    )


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_end_is_0_with_a_summary() -> None:
    result = run("done", "--progress", "plain")

    assert result.returncode == 0
    assert result.stdout == ""
    assert "done: a:6379 -> b:6379 in" in result.stderr
    assert "sync.started source=a:6379 target=b:6379 method=incremental" in result.stderr


def test_json_shows_each_state_and_ends_with_the_last() -> None:
    result = run("done", "--progress", "json")

    states = [status["state"] for status in objects(result.stdout)]
    assert "connecting" in states
    assert "snapshot" in states
    assert states[-1:] == ["done"]
    assert states.count("done") == 1
    assert "keys " not in result.stderr


def test_json_shows_at_least_one_a_second() -> None:
    result = run("done", "--progress", "json", SECONDS="2.5")

    times = [status["ts"] for status in objects(result.stdout)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[-1] - times[0] >= 2.4
    assert max(gaps) < 1.0


def test_quiet_is_quiet() -> None:
    result = run("done", "--progress", "none", "--log-level", "warning")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_interpreted_codec_is_announced() -> None:
    assert "codec.interpreted" in run("done", COMPILED="no").stderr


def test_refusal_is_3_and_the_last_object_says_why() -> None:
    result = run("refused", "--progress", "json")

    last = objects(result.stdout)[-1]
    assert result.returncode == 3
    assert (last["state"], last["phase"]) == ("failed", "failed")
    assert last["error"].startswith("cannot connect to source 127.0.0.1:1 (Connection refused)")
    assert "error: cannot connect to source 127.0.0.1:1 (Connection refused)\n" in result.stderr
    assert "hint: check that the server runs\n" in result.stderr


def test_refusal_after_a_write_is_4_also_out_of_a_group() -> None:
    result = run("lost")

    assert result.returncode == 4
    assert "error: target is gone\n" in result.stderr


def test_bug_is_4_with_a_traceback() -> None:
    result = run("bug", "--progress", "json")

    assert result.returncode == 4
    assert "error: internal error: ZeroDivisionError (division by zero)" in result.stderr
    assert "in _bug" in result.stderr
    assert "ZeroDivisionError" in objects(result.stdout)[-1]["error"]


def test_json_logs_are_json_to_the_last_line() -> None:
    result = run("refused", "--log-format", "json", "--progress", "json")

    events = objects(result.stderr)
    assert events[-1]["event"] == "failed"
    assert events[-1]["hint"] == "check that the server runs"


def _wait_for(child: subprocess.Popen[str], state: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line)["state"] == state:
            return
    pytest.fail(f"the child ended before it was in state {state}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_stops_gracefully_with_130(number: signal.Signals) -> None:
    with start("follow", "--progress", "json") as child:
        _wait_for(child, "stream")
        child.send_signal(number)
        out, errors = child.communicate(timeout=10)

    states = [status["state"] for status in objects(out)]
    assert child.returncode == 130
    assert states[-2:] == ["stopping", "stopped"]
    assert {status["phase"] for status in objects(out)} == {"stream"}
    assert f"stop.requested signal={number.name}" in errors
    assert "error:" not in errors


@pytest.mark.parametrize("script", ["deaf", "hang"])
def test_second_signal_ends_at_once_with_130(script: str) -> None:
    with start(script, "--progress", "json") as child:
        _wait_for(child, "stream")
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        while "stop.requested" not in child.stderr.readline():
            pass
        sent = time.monotonic()
        child.send_signal(signal.SIGTERM)
        out, errors = child.communicate(timeout=10)

    assert child.returncode == 130
    assert time.monotonic() - sent < 4
    assert "stop.at_once signal=SIGTERM" in errors
    last = objects(out)[-1]
    assert (last["state"], last["phase"]) == ("stopped", "stream")
    assert "stopped before everything in flight was applied" in last["error"]


def test_graceful_stop_takes_10_seconds_at_most() -> None:
    with start("deaf", "--progress", "json") as child:
        _wait_for(child, "stream")
        sent = time.monotonic()
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=20)

    assert child.returncode == 130
    assert 9.5 < time.monotonic() - sent < 13
    assert "stop.timed_out" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_start_is_130(number: signal.Signals, tmp_path: Path) -> None:
    pipe = tmp_path / "ferry.toml"
    os.mkfifo(pipe)
    # pipe.open goes on once the child has opened it too, in the midst of its start.
    with command_line.start("sync", "--config", str(pipe)) as child, pipe.open("w"):
        child.send_signal(number)
        _, errors = child.communicate(timeout=10)

    assert child.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.parametrize("mode", ["json", "plain"])
def test_reader_that_went_away_does_not_end_the_run(mode: str) -> None:
    with start("done", "--progress", mode, SECONDS="1.5") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        if mode == "plain":
            child.stderr.close()

        assert child.wait(timeout=10) == 0


def test_reader_that_does_not_read_does_not_hold_the_run() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(write_end, True)
    command = [sys.executable, *command_line.SCRIPTED, "sync", *URLS, "--progress", "json"]
    started = time.monotonic()

    child = subprocess.run(
        command,
        env=command_line.environment(SCRIPT="done"),
        stdout=write_end,
        stderr=subprocess.PIPE,
        timeout=20,
        check=False,
    )

    os.close(read_end)
    os.close(write_end)
    assert child.returncode == 0
    assert time.monotonic() - started < 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process do this")
def test_password_variables_do_not_show_in_ps() -> None:
    variables = {
        "REDIS_FERRY_SOURCE_PASSWORD": SECRET,
        "REDIS_FERRY_TARGET": f"redis://u:{SECRET}@b",
        "KEPT": "kept",
    }
    with command_line.start(
        "sync", "redis://a", "--progress", "json",
        program=command_line.SCRIPTED, SCRIPT="follow", **variables,
    ) as child:  # fmt: skip
        _wait_for(child, "stream")
        shown = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
        child.terminate()
        child.communicate(timeout=10)

    assert SECRET.encode() not in b" ".join(shown)
    assert b"KEPT=kept" in shown
    assert b"REDIS_FERRY_TARGET=redis://u:******@b" in shown
