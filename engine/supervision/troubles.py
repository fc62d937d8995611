"""What keeps a line from running right now, by side. Pure."""

from __future__ import annotations

from enum import StrEnum

from engine.errors import CorruptRdb, EngineError, SourceError
from engine.settings import ResumeMode
from engine.supervision.recovery import Decision, after_error


class Side(StrEnum):
    """Where the trouble is."""

    SOURCE = "source"
    TARGET = "target"


def side_of(error: EngineError) -> Side:
    """The side an error belongs to."""
    return Side.SOURCE if isinstance(error, SourceError) else Side.TARGET


class Troubles:
    """At most one error a side; the newest. corrupt_snapshots: how many one after the other."""

    def __init__(self) -> None:
        self._errors: dict[Side, EngineError] = {}
        self._attempts: dict[Side, int] = {}
        self.corrupt_snapshots = 0

    def decide(self, error: EngineError, mode: ResumeMode, has_run: bool) -> Decision:
        """What follows this error; see recovery.after_error."""
        self.corrupt_snapshots += isinstance(error, CorruptRdb)
        return after_error(error, mode, has_run=has_run, corrupt_snapshots=self.corrupt_snapshots)

    def add(self, side: Side, error: EngineError) -> int:
        """Note an error; return how many there have been on this side since it last worked."""
        self._errors[side] = error
        self._attempts[side] = self._attempts.get(side, 0) + 1
        return self._attempts[side]

    def clear(self, side: Side) -> bool:
        """This side is connected again; whether it was in trouble."""
        return self._errors.pop(side, None) is not None

    def forget_attempts(self, side: Side) -> None:
        """This side has worked: the next trouble is the first one again."""
        self._attempts.pop(side, None)

    def has(self, side: Side) -> bool:
        """Whether this side is in trouble."""
        return side in self._errors

    def text_of(self, side: Side) -> str | None:
        """This side's; None if there is none."""
        error = self._errors.get(side)
        return None if error is None else str(error)

    def __bool__(self) -> bool:
        return bool(self._errors)

    @property
    def text(self) -> str | None:
        """All of it in one line; None if there is none."""
        return "; ".join(str(error) for error in self._errors.values()) or None
