"""The writer writes at its rate, counts what it sent, and ends on SIGTERM."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.demo.steps import TOLERATED
from engine.demo.wire import Wire, WireError
from engine.demo.writer import Workload
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")

OLDEST = SERVER_NAMES[0] if SERVER_NAMES else ""
# What the handshake and the questions of Workload and of this test add to the server's count.
OWN_COMMANDS = 10


def calls(wire: Wire) -> int:
    return int(wire.facts("stats")["total_commands_processed"])


def test_process_ends_on_sigterm_and_reports_what_the_server_counted(
    start_server: StartServer,
) -> None:
    server = start_server(OLDEST)
    with Wire(server.endpoint) as wire:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.demo.writer", "--port", str(server.port), "--rate", "0"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            deadline = time.monotonic() + 10
            while calls(wire) < 5000 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            printed = process.communicate(timeout=5)[0]

        report = json.loads(printed)
        assert process.returncode == 0
        assert report["commands"] > 500
        # Redis counts commands that scripts and functions call, and our polls, on top.
        assert calls(wire) >= report["commands"]


@pytest.mark.parametrize("rate", [2000])
def test_rate_is_kept(rate: int, start_server: StartServer) -> None:
    server = start_server(OLDEST)

    report = Workload(server.endpoint, rate=rate).run(threading.Event(), max_commands=rate // 2)

    assert report.seconds > 0.45
    assert report.commands >= rate // 2


def test_failure_of_the_server_is_reported_with_exit_1(start_server: StartServer) -> None:
    server = start_server(OLDEST, config={"maxmemory": 1})

    ended = subprocess.run(
        [sys.executable, "-m", "engine.demo.writer", "--port", str(server.port), "--rate", "0"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )

    assert ended.returncode == 1
    assert "OOM" in json.loads(ended.stdout)["failure"]


def test_error_that_is_not_expected_is_raised(start_server: StartServer) -> None:
    server = start_server(OLDEST)
    with server.client() as client:
        for number in range(300):
            client.set(f"w:list:{number}", "not a list")

    with pytest.raises(WireError, match="WRONGTYPE"):
        Workload(server.endpoint).run(threading.Event(), max_commands=50_000)


def test_only_tolerated_errors_are_counted(start_server: StartServer) -> None:
    report = Workload(start_server(OLDEST).endpoint).run(threading.Event(), max_commands=20_000)

    assert set(report.errors) <= {text.split()[0] for text in TOLERATED}
    assert sum(report.errors.values()) < report.commands / 20


@pytest.mark.skipif("valkey-9.1" not in SERVER_NAMES, reason="needs functions")
def test_functions_are_loaded_and_called_where_there_are_some(start_server: StartServer) -> None:
    server = start_server("valkey-9.1")

    Workload(server.endpoint).run(threading.Event(), max_commands=20_000)

    with Wire(server.endpoint) as wire:
        stats = wire.facts("commandstats")
    assert {"cmdstat_fcall", "cmdstat_function|load", "cmdstat_blpop"} <= stats.keys()
