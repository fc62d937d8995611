"""Asking a running task over its control socket. Blocking: for the command line."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from engine.control.control_socket import socket_path
from engine.errors import TaskNotReached

TIMEOUT_SECONDS = 5.0
ANSWER_LIMIT_BYTES = 1024 * 1024


def ask_task(folder: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """Send one request to the task with this folder. None: no task runs there.

    Raises:
        TaskNotReached: its socket is there, but it did not answer as a task does.
    """
    path = socket_path(folder)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(ANSWER_LIMIT_BYTES)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None  # refused: left behind by a task that was killed
    except OSError as error:
        raise TaskNotReached(
            f"the running task at {path} does not answer: {error.strerror or error}",
            hint="it may be stopped (SIGSTOP) or very busy; try again, or look for its process",
        ) from error
    try:
        reply = json.loads(line)
    except ValueError:
        reply = None
    if not isinstance(reply, dict) or "ok" not in reply:
        raise TaskNotReached(
            f"the running task at {path} closed the connection without an answer",
            hint="it may just have ended; try again",
        )
    return reply
