"""A PostgreSQL of the tests' own, on loopback, for tests with the marker `postgres`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest


def postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else None if on_path is None else Path(on_path).parent


class RunningPostgres:
    """`with`; `stop` and `start` keep port and data."""

    def __init__(self) -> None:
        programs = postgres_programs()
        if programs is None:
            pytest.skip(
                "PostgreSQL's server programs are not installed (apt-get install postgresql)"
            )
        if importlib.util.find_spec("asyncpg") is None:
            pytest.skip("asyncpg is not installed")
        self._programs = programs
        # The server refuses to run as root; its folder belongs to the user that it runs as.
        self._user = "postgres" if os.getuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="redis-ferry-pg-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"postgresql://ferry@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "-D", "data", "-U", "ferry", "-A", "trust", "-N", "--no-instructions")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        settings = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", settings, "start")

    def stop(self) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        # No pipes: the server would inherit and hold them.
        subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
