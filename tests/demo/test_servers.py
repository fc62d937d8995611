"""Servers start, answer, stop, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.demo.binaries import _executable
from engine.demo.servers import RunningServer, ServerStartError
from tests.fix_servers import BINARIES, SERVER_NAMES, StartServer

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")

ANY = SERVER_NAMES[0] if SERVER_NAMES else ""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie nobody has reaped yet is dead


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_every_server_answers_as_the_version_it_is_named_for(
    name: str, start_server: StartServer
) -> None:
    server = start_server(name, config={"enable-debug-command": "yes", "databases": 32})

    with server.client(db=31) as client:
        facts = client.info("server")
        assert client.execute_command("DEBUG", "SLEEP", "0") == b"OK"
    version = facts.get("valkey_version", facts["redis_version"])
    assert name.split("-")[1] == ".".join(version.split(".")[:2])
    assert server.pid == facts["process_id"]


def test_stop_ends_the_process_and_removes_its_directory() -> None:
    server = RunningServer(BINARIES[ANY]).start()
    pid, directory = server.pid, server.directory

    server.stop()

    assert not is_alive(pid)
    assert not directory.exists()


def test_kept_directory_holds_the_log_after_stop(tmp_path: Path) -> None:
    server = RunningServer(BINARIES[ANY], directory=tmp_path, keep=True).start()
    server.stop()

    assert "eady to accept connections" in (tmp_path / "server.log").read_text()


def test_password_of_the_config_is_in_url_and_clients(start_server: StartServer) -> None:
    server = start_server(ANY, config={"requirepass": "p@ss/word"})

    with server.client() as client:
        assert client.ping() is True
    assert server.url == f"redis://:p%40ss%2Fword@127.0.0.1:{server.port}"


def test_unix_socket_is_open(start_server: StartServer) -> None:
    server = start_server(ANY)
    assert server.unix_path is not None

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server.unix_path)
        connection.sendall(b"PING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"


def test_bad_directive_is_reported_with_the_log_of_the_server() -> None:
    server = RunningServer(BINARIES[ANY], config={"no-such-directive": "yes"})

    with pytest.raises(ServerStartError, match="no-such-directive"):
        server.start()
    assert not server.is_running


def test_taken_port_is_reported_when_it_was_asked_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = RunningServer(BINARIES[ANY], port=taken.getsockname()[1])

        with pytest.raises(ServerStartError, match="already in use"):
            server.start()


def test_taken_free_port_is_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        ports = [taken.getsockname()[1], free.getsockname()[1]]
        free.close()
        offered = list(ports)
        monkeypatch.setattr("engine.demo.servers._free_port", lambda: offered.pop(0))

        with RunningServer(BINARIES[ANY]) as server:
            assert server.port == ports[1]


def test_killed_server_starts_again_on_its_port(start_server: StartServer) -> None:
    server = start_server(ANY)
    port, first = server.port, server.pid

    server.kill()
    server.start()

    assert port == server.port
    assert first != server.pid
    with server.client() as client:
        assert client.ping() is True


def test_async_context_runs_and_stops() -> None:
    async def scenario() -> tuple[int, bool]:
        async with RunningServer(BINARIES[ANY]) as server, server.async_client(db=3) as client:
            await client.set("k", "v")
            return server.pid, await client.get("k") == b"v"

    pid, is_equal = asyncio.run(scenario())

    assert is_equal
    assert not is_alive(pid)


_PARENT = """
import sys, time
from engine.demo.servers import RunningServer, find_servers
server = RunningServer(find_servers()[sys.argv[1]], outlive_parent=sys.argv[2] == "yes").start()
print(server.pid, server.directory, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("outlive", ["no", "yes"])
def test_server_outlives_a_killed_parent_only_when_asked_to(outlive: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, ANY, outlive],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        parent.kill()
    try:
        deadline = time.monotonic() + (5.0 if outlive == "no" else 0.2)
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)

        assert is_alive(pid) == (outlive == "yes")
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_binary_without_x_bits_is_made_executable(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o600)

    executable = _executable(script)

    assert subprocess.run([executable], capture_output=True, check=True).stdout == b"ran\n"
