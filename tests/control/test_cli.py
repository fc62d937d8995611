"""The command line as scripts see it: statuses, messages, help, and nothing of a password."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import __version__
from tests.control.command_line import run, start

SECRET = "s3cr3t"

# Every option of the contract.
OPTIONS = [
    "--config",
    "--method",
    "--exit-when-synced",
    "--bandwidth-limit-mb",
    "--on-conflict",
    "--resume-mode",
    "--progress",
    "--task-id",
    "--spool-dir",
    "--spool-memory-mb",
    "--spool-disk-gb",
    "--spool-tail-mb",
    "--delivery",
    "--read-from",
    "--snapshots-per-host",
    "--address-map",
    "--source-sentinel-user",
    "--source-sentinel-password-file",
    "--target-sentinel-user",
    "--target-sentinel-password-file",
    "--log-level",
    "--log-format",
    "--source-password-file",
    "--source-tls-ca",
    "--source-tls-cert",
    "--source-tls-key",
    "--source-tls-insecure",
    "--target-password-file",
    "--target-tls-ca",
    "--target-tls-cert",
    "--target-tls-key",
    "--target-tls-insecure",
]


def test_help_teaches() -> None:
    result = run("--help")

    assert result.returncode == 0
    assert result.stderr == ""
    for text in ("sync", "demo", "version", "130  interrupted", "Start here"):
        assert text in result.stdout


def test_help_of_sync_names_every_option_in_full() -> None:
    result = run("sync", "--help", REDIS_FERRY_SOURCE_PASSWORD=SECRET)

    assert result.returncode == 0
    words = result.stdout.split()
    assert [option for option in OPTIONS if option not in words] == []
    for text in ("Examples", "Exit status", "1..10240", "8..65536", "replace|skip|fail"):
        assert text in result.stdout
    assert SECRET not in result.stdout


@pytest.mark.parametrize("arguments", [(), ("sync",), ("demo",), ("version",)], ids=str)
def test_help_speaks_of_values_and_not_of_types(arguments: tuple[str, ...]) -> None:
    shown = run(*arguments, "--help").stdout

    assert "--help" in shown
    assert re.findall(r"<[a-z ]+>", shown) == []


@pytest.mark.parametrize("module", ["asyncio", "pydantic_settings", "redis", "structlog", "uvloop"])
def test_help_does_not_load_what_it_does_not_need(module: str) -> None:
    code = f"import sys; from engine.control import cli; assert {module!r} not in sys.modules"

    assert _run_python(code) == 0


def _run_python(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode


def test_versions() -> None:
    assert f"redis-ferry {__version__}\n" == run("--version").stdout

    lines = run("version").stdout.splitlines()

    assert [line.split()[0] for line in lines[:5]] == [
        "redis-ferry",
        "codec",
        "python",
        "platform",
        "uvloop",
    ]


def test_no_command_shows_the_help_and_is_a_usage_error() -> None:
    result = run()

    assert result.returncode == 2
    assert "Usage" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("sync", "--bandwith-limit-mb", "1"), "--bandwidth-limit-mb", id="option"),
        pytest.param(("sync", "--method"), "requires an argument", id="no-value"),
        pytest.param(("synk",), "sync", id="command"),
        pytest.param(("sync", "redis://a", "redis://b", "c"), "extra argument", id="extra"),
        pytest.param(("sync", "redis://a"), "no target is given", id="no-target"),
        pytest.param(
            ("sync", "redis://a", "redis://b", "--bandwidth-limit-mb", "0"),
            "--bandwidth-limit-mb cannot be '0'\nhint: it must be an integer from 1 to 10240",
            id="range",
        ),
        pytest.param(("sync", "--config", "/nowhere", "a", "b"), "/nowhere", id="config"),
    ],
)
def test_usage_error_is_2_with_a_hint(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr
    assert says in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("sync", f"redis://u:{SECRET}@a/0", "redis://b"), id="database"),
        pytest.param(("sync", f"redis://u:{SECRET}/x@a", "redis://b"), id="not-encoded"),
        pytest.param(("sync", f"redis://u:x {SECRET}@a", "redis://b"), id="space"),
        pytest.param(("sync", "a", "b", f"redis://u:x {SECRET}@a"), id="extra-argument"),
        pytest.param(("sync", "a", "b", f"redis://u:{SECRET}\t'@a"), id="quoted-extra-argument"),
        pytest.param((f"redis://u:{SECRET}@a", "redis://b"), id="command-forgotten"),
        pytest.param(("sync", f"u:{SECRET}@a:6379", "redis://b"), id="no-scheme"),
        pytest.param(("sync", f"--source-password={SECRET}", "a", "b"), id="option-that-is-not"),
    ],
)
def test_no_password_in_an_error(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert SECRET not in result.stdout + result.stderr


def test_forgotten_command_is_named() -> None:
    assert "redis-ferry sync SOURCE TARGET" in run("redis://a", "redis://b").stderr


def test_error_is_an_event_when_logs_are_json() -> None:
    result = run("sync", "redis://a/0", "redis://b", "--log-format", "json")

    event = json.loads(result.stderr)
    assert result.returncode == 2
    assert (event["event"], event["level"]) == ("failed", "error")
    assert "leave /0 out" in event["hint"]


def test_unreachable_server_is_3_and_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    # One port under two names, so that it does not matter which of the two is tried first.
    result = run("sync", f"redis://u:{SECRET}@127.0.0.1:{port}", f"redis://localhost:{port}")

    assert result.returncode == 3
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert f"127.0.0.1:{port}" in error or f"localhost:{port}" in error
    assert SECRET not in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process do this")
def test_passwords_do_not_show_in_ps(tmp_path: Path) -> None:
    # A settings file that is a pipe without a writer holds the child where its options are read.
    pipe = tmp_path / "ferry.toml"
    os.mkfifo(pipe)
    source, target = f"redis://user:{SECRET}@a", f"unix://:{SECRET}{SECRET}@/r.sock"
    with start("sync", source, target, "--config", str(pipe)) as child:
        try:
            shown = _wait_for_change(child.pid, source.encode())
        finally:
            child.kill()

    assert SECRET.encode() not in shown
    assert [
        b"sync",
        b"redis://user:******@a",
        b"unix://:************@/r.sock",
        b"--config",
        os.fsencode(pipe),
        b"",
    ] == shown.split(b"\0")[-6:]


def _wait_for_change(pid: int, before: bytes) -> bytes:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"sync" in shown and before not in shown:
            return shown
        time.sleep(0.01)
    raise TimeoutError(shown)
