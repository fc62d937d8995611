"""Fixtures of the option tests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.control.options import SyncOptions, read_options
from tests.control.live_line import Line
from tests.fix_servers import StartServer

URLS = {"source": "redis://a", "target": "redis://b"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("REDIS_FERRY_"):
            monkeypatch.delenv(name)


class Inputs:
    """Writes the three places that options come from."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def read(
        self,
        flags: Mapping[str, Any] | None = None,
        toml: str | None = None,
        /,
        **variables: str,
    ) -> SyncOptions:
        """Read the options: from flags (two URLs if None), a settings file and variables."""
        given = dict(URLS if flags is None else flags)
        for name, value in variables.items():
            self._monkeypatch.setenv(f"REDIS_FERRY_{name}", value)
        if toml is not None:
            (self.folder / "ferry.toml").write_text(toml)
            given["config"] = str(self.folder / "ferry.toml")
        return read_options(given, os.environ)

    def file(self, name: str, content: bytes, mode: int = 0o600) -> str:
        """Write a file. Returns its path."""
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    return Inputs(tmp_path, monkeypatch)


@pytest.fixture
def line(tmp_path: Path, start_server: StartServer) -> Line:
    """The command line with a spool folder of its own, an old source and a newer target."""
    source = start_server("redis-6.2", config={"repl-diskless-sync-delay": 0})
    return Line(tmp_path / "spool", source, start_server("redis-8.2"))
