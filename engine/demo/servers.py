"""Runs the servers of engine/demo/binaries.py as child processes: no root, no Docker.

Every server listens on 127.0.0.1 only and keeps its files in a directory of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from engine.demo.binaries import ServerBinary, find_servers
from engine.demo.child import death_signal
from engine.endpoint import Endpoint
from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["RunningServer", "ServerBinary", "ServerStartError", "find_servers"]

START_TIMEOUT_SECONDS = 10.0
TERM_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.01
PROBE_TIMEOUT_SECONDS = 0.5
CLIENT_TIMEOUT_SECONDS = 30.0
BIND_ATTEMPTS = 5
LOG_TAIL_LINES = 15
UNIX_PATH_LIMIT = 100  # sockaddr_un has 108 bytes on Linux, 104 elsewhere
SINCE_7_0 = frozenset({"enable-debug-command", "enable-module-command", "enable-protected-configs"})


class ServerStartError(EngineError):
    """A demo server did not come up; `detail` holds the end of its log."""


class RunningServer:
    """One server process on 127.0.0.1, in a temporary directory of its own.

    `with`, `async with` or start() and stop(). config: directives and their values; a directive
    with several arguments is given as a sequence (`"save": ("60", "1")`): 6.2 quotes a string as a
    whole. Directives for DEBUG and modules that Redis 6.2 does not have yet are left out there.
    keep: stop() leaves the directory. outlive_parent: the server stays when this process dies;
    otherwise the kernel ends it (Linux). After kill(), or stop() with keep, start() runs it again
    on the same port and files.
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        config: Mapping[str, str | int | Sequence[str | int]] | None = None,
        port: int | None = None,
        directory: Path | None = None,
        keep: bool = False,
        outlive_parent: bool = False,
    ) -> None:
        self.binary = binary
        self.host = "127.0.0.1"
        self.port = port or 0
        self.keep = keep
        self.outlive_parent = outlive_parent
        self.config = _known_config(binary, config or {})
        self._port_is_chosen = port is not None
        self._given_directory = directory
        self._directory: Path | None = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The server's `dir`: its socket, its dumps and its log."""
        if self._directory is None:
            raise RuntimeError("the server has not been started")
        return self._directory

    @property
    def log_path(self) -> Path:
        """What the server prints."""
        return self.directory / "server.log"

    @property
    def unix_path(self) -> str | None:
        """The path of its unix socket; None where the directory's name is too long for one."""
        if "unixsocket" in self.config:
            return str(self.config["unixsocket"])
        path = str(self.directory / "server.sock")
        return path if len(path) <= UNIX_PATH_LIMIT else None

    @property
    def pid(self) -> int:
        """The process id of the started server."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    @property
    def password(self) -> str | None:
        """`requirepass` of the config."""
        password = self.config.get("requirepass")
        return str(password) if password is not None else None

    @property
    def url(self) -> str:
        """`redis://…`, with the password when there is one: for programs, not for logs."""
        credentials = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{credentials}{self.host}:{self.port}"

    @property
    def endpoint(self) -> Endpoint:
        """Its TCP address and password, as the engine takes them."""
        return Endpoint(host=self.host, port=self.port, password=self.password)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def client(
        self, db: int = 0, *, timeout_seconds: float = CLIENT_TIMEOUT_SECONDS
    ) -> redis.Redis:
        """Return a new client (RESP2, bytes). It never retries: a write is sent once or fails."""
        options = self._client_options(db, timeout_seconds)
        return redis.Redis(**options, retry=Retry(NoBackoff(), 0))

    def async_client(
        self, db: int = 0, *, timeout_seconds: float = CLIENT_TIMEOUT_SECONDS
    ) -> redis.asyncio.Redis:
        """Return a new asyncio client with the settings of `client`."""
        options = self._client_options(db, timeout_seconds)
        return redis.asyncio.Redis(**options, retry=redis.asyncio.retry.Retry(NoBackoff(), 0))

    def _client_options(self, db: int, timeout_seconds: float) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "db": db,
            "password": self.password,
            "protocol": 2,
            "decode_responses": False,
            "socket_timeout": timeout_seconds,
        }

    def start(self) -> Self:
        """Run the server and wait until it answers, at most START_TIMEOUT_SECONDS.

        Raises:
            ServerStartError: it ended or did not answer; with the end of its log.
        """
        if self.is_running:
            raise RuntimeError(f"{self.binary.name} is running already, pid {self.pid}")
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="redis-ferry-"))
        for attempt in range(1, BIND_ATTEMPTS + 1):
            if not self._port_is_chosen:
                self.port = _free_port()
            try:
                self._start_once()
            except ServerStartError as error:
                # Somebody took the port between our look and the server's bind.
                taken = "already in use" in error.detail
                if self._port_is_chosen or not taken or attempt == BIND_ATTEMPTS:
                    self._remove_directory()
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        self._port_is_chosen = True  # a restart keeps the address
        return self

    def _start_once(self) -> None:
        log_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            # A parent-death signal follows the thread that forked, so one that lives as long as the
            # process does all the forks.
            self._process = _spawner().submit(self._spawn, log.fileno()).result()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self._terminate()
                what = f"ended with {status}" if status is not None else "did not answer in time"
                raise ServerStartError(
                    f"{self.binary.name} on port {self.port} {what}",
                    detail=self._log_tail(log_from),
                )
            time.sleep(POLL_SECONDS)

    def _spawn(self, log_fd: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal is for the engine alone; it then stops its servers itself.
            start_new_session=True,
            preexec_fn=None if self.outlive_parent else death_signal(),  # noqa: PLW1509
        )

    def _command(self) -> list[str]:
        options: dict[str, str | int | Sequence[str | int]] = {
            "port": self.port,
            "bind": self.host,
            "save": "",
            "appendonly": "no",
            "protected-mode": "no",
            "dir": str(self.directory),
            "daemonize": "no",
        }
        if self.binary.version_numbers >= (7, 0, 0):
            # Else SIGTERM waits up to 10 s for replicas that are behind.
            options["shutdown-timeout"] = 0
        if self.unix_path is not None:
            options["unixsocket"] = self.unix_path
        options.update(self.config)
        command = [str(self.binary.path)]
        for name, value in options.items():
            values = [value] if isinstance(value, str | int) else value
            command += [f"--{name}", *(str(it) for it in values)]
        return command

    def _answers(self) -> bool:
        """Whether the process itself, and no stranger on its port, is ready for commands."""
        client = self.client(timeout_seconds=PROBE_TIMEOUT_SECONDS)
        try:
            client.ping()
            return bool(client.info("server")["process_id"] == self.pid)
        except (redis.AuthenticationError, NoPermissionError):
            return True  # alive; users and passwords other than requirepass are the caller's
        except (redis.ConnectionError, redis.TimeoutError):
            return False  # not listening yet, or LOADING
        finally:
            client.close()

    def _log_tail(self, log_from: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(log_from)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def stop(self) -> None:
        """SIGTERM, after 5 s SIGKILL; wait for the end and remove the directory unless `keep`."""
        self._terminate()
        if not self.keep:
            self._remove_directory()

    def kill(self) -> None:
        """SIGKILL and wait for the end. The directory stays, for a later start() or stop()."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing, until unpause() or kill()."""
        self._signal(signal.SIGSTOP)

    def unpause(self) -> None:
        """SIGCONT; nothing if it has ended."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server is not running")
        self._process.send_signal(number)  # nothing if it has ended already

    def _terminate(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)  # nothing if it has ended already
        try:
            self._process.wait(TERM_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _remove_directory(self) -> None:
        if self._directory is not None and self._given_directory is None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.create_task(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on by itself: without the wait its server would be left over.
            with contextlib.suppress(ServerStartError):
                await starting
            self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)


def _known_config(
    binary: ServerBinary, config: Mapping[str, str | int | Sequence[str | int]]
) -> dict[str, str | int | Sequence[str | int]]:
    # Valkey began at 7.2, so one comparison does for both products.
    if binary.version_numbers >= (7, 0, 0):
        return dict(config)
    return {name: value for name, value in config.items() if name not in SINCE_7_0}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def _spawner() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="demo-server-spawner")
