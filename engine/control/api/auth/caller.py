"""Who has been let in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """name: for the log, no secret. project_id: the only project it may name, None: any. may_write: or only read."""

    name: str
    project_id: str | None = None
    may_write: bool = True


ANYONE = Caller(name="anyone")
