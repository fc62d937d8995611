"""The states of a task: the table of moves, and what scripts see of it."""

from __future__ import annotations

import pytest

from engine.errors import InternalError
from engine.supervision.states import FINAL_STATES, PHASES, TRANSITIONS, TaskState, move, phase_in

S = TaskState
CONTRACT_PHASES = {"handshake", "snapshot", "stream", "done", "failed"}
PATHS = {
    "full": [S.CREATED, S.CONNECTING, S.SNAPSHOT, S.DONE],
    "incremental": [S.CREATED, S.CONNECTING, S.SNAPSHOT, S.STREAM, S.STOPPING, S.STOPPED],
    "until-synced": [S.CREATED, S.CONNECTING, S.SNAPSHOT, S.STREAM, S.DONE],
    "resumed": [S.CREATED, S.CONNECTING, S.STREAM, S.STOPPING, S.STOPPED],
    "refused": [S.CREATED, S.CONNECTING, S.FAILED],
    "lost": [S.CONNECTING, S.STREAM, S.RECOVERING, S.CONNECTING, S.STREAM],
    "lost-in-the-snapshot": [S.SNAPSHOT, S.RECOVERING, S.CONNECTING, S.SNAPSHOT],
    "stopped-while-away": [S.STREAM, S.RECOVERING, S.STOPPING, S.STOPPED],
    "stopped-before-the-start": [S.CREATED, S.STOPPED],
    "failed-while-stopping": [S.STREAM, S.STOPPING, S.FAILED],
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_the_paths_of_a_task_are_allowed(path: list[TaskState]) -> None:
    state = path[0]
    for wanted in path[1:]:
        state = move(state, wanted)

    assert state is path[-1]


@pytest.mark.parametrize("wanted", list(TaskState))
@pytest.mark.parametrize("current", list(TaskState))
def test_moves_outside_the_table_are_bugs(current: TaskState, wanted: TaskState) -> None:
    if wanted in TRANSITIONS[current]:
        assert move(current, wanted) is wanted
        return
    with pytest.raises(InternalError, match=f"from {current} to {wanted}"):
        move(current, wanted)


def test_nothing_follows_an_end_and_everything_reaches_one() -> None:
    reached = set(FINAL_STATES)
    for _ in TaskState:
        reached |= {state for state in TaskState if TRANSITIONS[state] & reached}

    assert {state for state in TaskState if not TRANSITIONS[state]} == FINAL_STATES
    assert reached == set(TaskState)


@pytest.mark.parametrize("state", [S.CONNECTING, S.SNAPSHOT, S.STREAM, S.RECOVERING])
def test_a_running_task_may_always_be_stopped_and_may_always_fail(state: TaskState) -> None:
    assert {S.STOPPING, S.FAILED} <= TRANSITIONS[state]


def test_every_state_has_a_phase_of_the_contract() -> None:
    assert TRANSITIONS.keys() == set(TaskState)
    assert set(PHASES.values()) == CONTRACT_PHASES
    for state in TaskState:
        assert phase_in(state, "snapshot") in CONTRACT_PHASES


@pytest.mark.parametrize("phase", ["handshake", "snapshot", "stream"])
def test_a_stop_keeps_the_phase_it_came_in_and_an_end_does_not(phase: str) -> None:
    stopping = phase_in(S.STOPPING, phase)

    assert (stopping, phase_in(S.STOPPED, stopping)) == (phase, phase)
    assert (phase_in(S.DONE, stopping), phase_in(S.FAILED, stopping)) == ("done", "failed")
