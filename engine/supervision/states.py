"""The states of a task and the moves between them, as one table. Pure.

Source of the projection on DCS names: reference in README of the API (engine/control, a later stage).
"""

from __future__ import annotations

from enum import StrEnum

from engine.errors import InternalError


class TaskState(StrEnum):
    """Where a task stands. `phase` is what scripts watch; see `phase_in`."""

    CREATED = "created"
    CONNECTING = "connecting"
    SNAPSHOT = "snapshot"
    STREAM = "stream"
    RECOVERING = "recovering"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DONE = "done"
    FAILED = "failed"


_S = TaskState

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    _S.CREATED: frozenset({_S.CONNECTING, _S.STOPPED}),
    _S.CONNECTING: frozenset({_S.SNAPSHOT, _S.STREAM, _S.RECOVERING, _S.STOPPING, _S.FAILED}),
    _S.SNAPSHOT: frozenset({_S.STREAM, _S.DONE, _S.RECOVERING, _S.STOPPING, _S.FAILED}),
    # Back to the snapshot when the source no longer has the place where the stream would go on.
    _S.STREAM: frozenset({_S.SNAPSHOT, _S.DONE, _S.RECOVERING, _S.STOPPING, _S.FAILED}),
    # One side is away; the other goes on meanwhile, so what is left of the work may even end.
    _S.RECOVERING: frozenset(
        {_S.CONNECTING, _S.SNAPSHOT, _S.STREAM, _S.DONE, _S.STOPPING, _S.FAILED}
    ),
    _S.STOPPING: frozenset({_S.STOPPED, _S.DONE, _S.FAILED}),
    _S.STOPPED: frozenset(),
    _S.DONE: frozenset(),
    _S.FAILED: frozenset(),
}

# The `phase` of the progress contract: handshake, snapshot, stream, done, failed. A state that is not here keeps
# the phase before it: a stopped run ends in the phase that it was stopped in.
PHASES: dict[TaskState, str] = {
    _S.CREATED: "handshake",
    _S.CONNECTING: "handshake",
    _S.SNAPSHOT: "snapshot",
    _S.STREAM: "stream",
    _S.RECOVERING: "handshake",
    _S.DONE: "done",
    _S.FAILED: "failed",
}

FINAL_STATES = frozenset({_S.STOPPED, _S.DONE, _S.FAILED})


def move(current: TaskState, wanted: TaskState) -> TaskState:
    """Return `wanted` if the table allows it from `current`; InternalError otherwise."""
    if wanted not in TRANSITIONS[current]:
        raise InternalError(f"task state cannot go from {current} to {wanted}")
    return wanted


def phase_in(state: TaskState, phase_before: str) -> str:
    """The `phase` of a task that comes to `state` out of `phase_before`."""
    return PHASES.get(state, phase_before)
