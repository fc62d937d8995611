"""The statuses of a task as the DCS API names them, and which call is allowed in which. Pure.

The engine has its own states (engine/supervision/states.py); `project` maps them onto these names.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto

from engine.supervision.states import TaskState


class WireStatus(StrEnum):
    """A task's `status` on the wire. INCRMIGEATING is spelt as every client expects it."""

    CREATING = "CREATING"
    RUNNING = "RUNNING"  # made, waiting to be configured
    MIGRATING = "MIGRATING"  # a backup import at work
    FULLMIGRATING = "FULLMIGRATING"
    INCRMIGEATING = "INCRMIGEATING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    MIGRATION_FAILED = "MIGRATION_FAILED"
    RELEASED = "RELEASED"


class Call(Enum):
    """What a client may ask of one task."""

    CONFIGURE = auto()
    UPDATE = auto()
    STOP = auto()
    RESTART = auto()
    DELETE = auto()
    EXCHANGE = auto()


_W = WireStatus

# The engine works on these; after a crash of the service they go on by themselves.
WORKING = frozenset({_W.MIGRATING, _W.FULLMIGRATING, _W.INCRMIGEATING})
ENDED = frozenset({_W.TERMINATED, _W.SUCCESS, _W.FAILED, _W.MIGRATION_FAILED})

ALLOWED: dict[Call, frozenset[WireStatus]] = {
    Call.CONFIGURE: ENDED | {_W.RUNNING},
    Call.UPDATE: frozenset(WireStatus) - {_W.RELEASED},
    Call.STOP: WORKING | {_W.TERMINATING},
    Call.RESTART: ENDED,
    Call.DELETE: ENDED | {_W.RUNNING, _W.RELEASED},
    Call.EXCHANGE: frozenset({_W.INCRMIGEATING}),
}


class ExchangeStatus(StrEnum):
    """`task_status`: what has become of the addresses; absent before the first exchange."""

    EXCHANGING = "EXCHANGING"
    EXCHANGE_SUCCESS = "EXCHANGE_SUCCESS"
    ROLLBACK_SUCCESS = "ROLLBACK_SUCCESS"


_ENDS = {
    TaskState.STOPPING: _W.TERMINATING,
    TaskState.STOPPED: _W.TERMINATED,
    TaskState.DONE: _W.SUCCESS,
    TaskState.FAILED: _W.MIGRATION_FAILED,
}


def project(shown: WireStatus, state: TaskState, *, is_import: bool) -> WireStatus:
    """What to show of a task that the engine has in `state`.

    shown: what has been shown so far. While a link is away it stays: auto mode reconnects without a word.
    is_import: of a backup, which has one status for all its work.
    """
    if state in _ENDS:
        return _ENDS[state]
    if is_import:
        return _W.MIGRATING
    if state is TaskState.STREAM:
        return _W.INCRMIGEATING
    if state is TaskState.SNAPSHOT or shown not in WORKING:
        return _W.FULLMIGRATING
    return shown
