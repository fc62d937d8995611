"""What the report consists of, and remedies that can be pasted into a shell. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from engine.endpoint import Endpoint

Side = Literal["source", "target", "here"]


class Level(StrEnum):
    """How bad it is. A refusal is what would fail for certain and waiting does not repair."""

    OK = "ok"
    WARNING = "warning"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report. side: whose matter it is. text: one line. remedy: what to do, "" for nothing."""

    level: Level
    side: Side
    name: str
    text: str
    remedy: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """The report's own level; OK for an empty one."""
    order = list(Level)
    return max((it.level for it in findings), key=order.index, default=Level.OK)


def redis_cli(endpoint: Endpoint, *words: str) -> str:
    """A command line for the server's administrator. It asks for the password, and holds none."""
    parts = ["redis-cli"]
    if endpoint.unix_path is not None:
        parts += ["-s", endpoint.unix_path]
    else:
        parts += ["-h", endpoint.host, "-p", str(endpoint.port)]
    if endpoint.tls is not None:
        parts.append("--tls")
        parts += [] if endpoint.tls.ca_file is None else ["--cacert", str(endpoint.tls.ca_file)]
    if endpoint.password is not None:
        # The migration's own user may hardly change a setting.
        parts += ["--askpass"] if endpoint.username is None else ["--user", "default", "--askpass"]
    return shlex.join([*parts, *words])


class Report:
    """Collects the findings of one judgement: `report.ok(…)`, `report.warning(…)`, `report.refusal(…)`."""

    def __init__(self, side: Side) -> None:
        self.findings: list[Finding] = []
        self._side = side

    def ok(self, name: str, text: str) -> None:
        """All is well."""
        self._add(Level.OK, name, text, "")

    def warning(self, name: str, text: str, remedy: str = "") -> None:
        """It may go wrong."""
        self._add(Level.WARNING, name, text, remedy)

    def refusal(self, name: str, text: str, remedy: str = "") -> None:
        """It cannot go well."""
        self._add(Level.REFUSAL, name, text, remedy)

    def _add(self, level: Level, name: str, text: str, remedy: str) -> None:
        self.findings.append(
            Finding(level=level, side=self._side, name=name, text=text, remedy=remedy)
        )
