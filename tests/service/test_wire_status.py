"""The engine's states as the API's names, and the table of calls."""

from __future__ import annotations

import pytest

from engine.service.wire_status import ALLOWED, ENDED, WORKING, Call, WireStatus, project
from engine.supervision.states import TaskState as S

W = WireStatus


@pytest.mark.parametrize(
    ("shown", "state", "expected"),
    [
        (W.FULLMIGRATING, S.CONNECTING, W.FULLMIGRATING),
        (W.FULLMIGRATING, S.SNAPSHOT, W.FULLMIGRATING),
        (W.FULLMIGRATING, S.STREAM, W.INCRMIGEATING),
        (W.INCRMIGEATING, S.RECOVERING, W.INCRMIGEATING),
        (W.INCRMIGEATING, S.CONNECTING, W.INCRMIGEATING),
        (W.INCRMIGEATING, S.SNAPSHOT, W.FULLMIGRATING),  # full again because it must
        (W.FULLMIGRATING, S.RECOVERING, W.FULLMIGRATING),
        (W.INCRMIGEATING, S.STOPPING, W.TERMINATING),
        (W.TERMINATING, S.STOPPED, W.TERMINATED),
        (W.FULLMIGRATING, S.DONE, W.SUCCESS),
        (W.INCRMIGEATING, S.FAILED, W.MIGRATION_FAILED),
        (W.RUNNING, S.CONNECTING, W.FULLMIGRATING),
    ],
)
def test_a_state_is_projected(shown: W, state: S, expected: W) -> None:
    assert project(shown, state, is_import=False) is expected


@pytest.mark.parametrize("state", list(S))
def test_every_state_has_a_name_also_in_an_import(state: S) -> None:
    status = project(W.MIGRATING, state, is_import=True)

    assert status in {W.MIGRATING, W.TERMINATING} | ENDED


def test_every_call_has_its_row_and_no_status_is_both_at_work_and_at_rest() -> None:
    assert set(ALLOWED) == set(Call)
    assert not WORKING & ENDED
    assert not ALLOWED[Call.CONFIGURE] & WORKING
    assert not ALLOWED[Call.DELETE] & WORKING
    assert ALLOWED[Call.STOP] == WORKING | {W.TERMINATING}


def test_the_incremental_phase_is_spelt_as_on_the_wire() -> None:
    assert str(W.INCRMIGEATING) == "INCRMIGEATING"
