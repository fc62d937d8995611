"""The control socket of a running task: a JSON object a line in, one a line out.

    {"do": "status"}                            → {"ok": true, "status": {…}, "bandwidth_limit_mb": 50, "pid": 4711}
    {"do": "set", "bandwidth_limit_mb": 50}     → {"ok": true, "bandwidth_limit_mb": 50}      null lifts the limit
    {"do": "stop"}                              → {"ok": true}
    anything else                               → {"ok": false, "error": "what is wrong"}

It is a unix socket in the task's folder that only its user can reach. Nothing that comes in can disturb the
task: lines, connections and waits are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any, Protocol

import structlog

from engine.control.progress import status_object
from engine.settings import MIB, TaskSettings
from engine.supervision.status import TaskStatus

log = structlog.get_logger("engine.control.socket")

LINE_LIMIT_BYTES = 4096
CONNECTION_LIMIT = 16
IDLE_TIMEOUT_SECONDS = 30.0  # a client that says nothing; also for one that does not read
PATH_LIMIT_BYTES = 100  # sockaddr_un has 108 bytes on Linux, 104 on macOS
HIGHEST_LIMIT_MB = 10240


class Controllable(Protocol):
    """What the socket needs of a task."""

    def status(self) -> TaskStatus:
        """Tell how it goes."""

    def set_bandwidth_limit(self, bytes_per_second: int | None) -> None:
        """Change the limit, None lifts it."""

    def request_stop(self) -> None:
        """Stop gracefully."""


def socket_path(folder: Path) -> Path:
    """Where the socket of the task with this folder is; both sides find it by the folder alone."""
    path = folder / "control.sock"
    if len(os.fsencode(path)) <= PATH_LIMIT_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"redis-ferry-{os.getuid()}" / f"{name}.sock"


def answer(
    line: bytes, task: Controllable, limit_mb: int | None
) -> tuple[dict[str, Any], int | None]:
    """Carry out one request. Returns the answer and the limit that holds from now on; never raises."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _error("not a JSON object"), limit_mb
    if not isinstance(request, dict):
        return _error("not a JSON object"), limit_mb
    match request.get("do"):
        case "status":
            facts = {"status": status_object(task.status()), "bandwidth_limit_mb": limit_mb}
            return {"ok": True, **facts, "pid": os.getpid()}, limit_mb
        case "set":
            return _set(request, task, limit_mb)
        case "stop":
            log.info("stop.requested", by="control socket")
            task.request_stop()
            return {"ok": True}, limit_mb
        case _:
            return _error('"do" must be "status", "set" or "stop"'), limit_mb


def _set(
    request: dict[str, Any], task: Controllable, limit_mb: int | None
) -> tuple[dict[str, Any], int | None]:
    if set(request) != {"do", "bandwidth_limit_mb"}:
        return _error('"set" takes "bandwidth_limit_mb" and nothing else'), limit_mb
    wanted = request["bandwidth_limit_mb"]
    is_number = isinstance(wanted, int) and not isinstance(wanted, bool)
    if wanted is not None and not (is_number and 1 <= wanted <= HIGHEST_LIMIT_MB):
        text = f"bandwidth_limit_mb must be null or an integer from 1 to {HIGHEST_LIMIT_MB}"
        return _error(text), limit_mb
    task.set_bandwidth_limit(None if wanted is None else wanted * MIB)
    log.info("limit.changed", before_mb=limit_mb, now_mb=wanted)
    return {"ok": True, "bandwidth_limit_mb": wanted}, wanted


def _error(text: str) -> dict[str, Any]:
    return {"ok": False, "error": text}


class ControlSocket:
    """Serves the socket while the task runs; `async with`. Where that is not possible the task runs without."""

    def __init__(self, task: Controllable, settings: TaskSettings) -> None:
        self._task = task
        self._folder = settings.spool.directory
        limit = settings.bandwidth_limit_bytes_per_second
        self._limit_mb = None if limit is None else limit // MIB
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._made: tuple[Path, int, int] | None = None  # path, device, inode

    async def __aenter__(self) -> ControlSocket:
        if self._folder is None:
            return self
        path = socket_path(self._folder)
        try:
            make_private_folder(self._folder)
            make_private_folder(path.parent)
            listener = self._bind(path)
            self._server = await asyncio.start_unix_server(
                self._talk, sock=listener, limit=LINE_LIMIT_BYTES
            )
        except OSError as error:
            log.warning(
                "control_socket.missing",
                path=str(path),
                why=error.strerror or str(error),
                means="the task runs, but redis-ferry tasks can neither see nor change it",
                remedy="give a folder that this user can write to with --spool-dir",
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for talk in self._talks:
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks)
        self._remove()

    def _bind(self, path: Path) -> socket.socket:
        """Listen under a name of our own, then take the socket's name: an old one is replaced at once."""
        own = path.with_name(f"c{os.getpid()}")
        own.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(own))
            own.chmod(stat.S_IRUSR | stat.S_IWUSR)
            listener.listen(CONNECTION_LIMIT)
            own.replace(path)
            found = path.stat()
        except OSError:
            listener.close()
            raise
        self._made = (path, found.st_dev, found.st_ino)
        return listener

    def _remove(self) -> None:
        """Remove what is ours: whoever took the task over has a socket of the same name."""
        if self._made is None or self._folder is None:
            return
        path, device, inode = self._made
        with contextlib.suppress(OSError):
            found = path.stat()
            if (found.st_dev, found.st_ino) == (device, inode):
                path.unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # only if nothing else is kept there

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        if len(self._talks) >= CONNECTION_LIMIT:
            writer.close()
            return
        self._talks.add(talk)
        try:
            while line := await self._read_line(reader, writer):
                reply, self._limit_mb = answer(line, self._task, self._limit_mb)
                await self._write(writer, reply)
        except (OSError, TimeoutError):
            pass  # the client's loss
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _read_line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
            try:
                return await reader.readline()
            except ValueError:  # longer than the limit: where the next one starts is not known
                pass
        await self._write(writer, _error(f"a line has at most {LINE_LIMIT_BYTES} bytes"))
        return b""

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
        writer.write(json.dumps(reply, separators=(",", ":")).encode() + b"\n")
        async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
            await writer.drain()


def make_private_folder(path: Path) -> None:
    """Make a folder that only this user can enter, or make sure that it is such a one.

    Raises:
        OSError: it cannot be made, or it belongs to somebody else.
    """
    path.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(1, f"{path} is not a folder of this user")
    if stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        path.chmod(stat.S_IRWXU)
