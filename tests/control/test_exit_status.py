"""The five numbers that scripts rely on."""

from __future__ import annotations

import pytest

from engine import errors
from engine.control.exit_status import exit_status
from engine.errors import EngineError, TargetRejected

REFUSALS = [
    errors.CorruptAof,
    errors.SourceUnreachable,
    errors.SourceAuthError,
    errors.SourceRefused,
    errors.SourceNotReady,
    errors.TargetUnreachable,
    errors.TaskNotReached,
    errors.TargetAuthError,
    errors.TargetRefused,
    errors.TargetNotReady,
    errors.UnsupportedByTarget,
    errors.LedgerError,
]
FAILURES = [
    errors.SourceLinkLost,
    errors.SourceProtocolError,
    errors.StreamOutOfStep,
    errors.CorruptRdb,
    errors.TargetLinkLost,
    errors.CheckpointMoved,
    errors.SpoolDamaged,
    errors.InternalError,
]


def test_end_of_a_migration_is_0() -> None:
    assert exit_status(None, wrote_to_target=True, finished=True) == 0


def test_stop_before_the_end_is_130() -> None:
    assert exit_status(None, wrote_to_target=True, finished=False) == 130


def test_interrupt_during_start_is_130() -> None:
    assert exit_status(KeyboardInterrupt()) == 130


def test_configuration_is_2() -> None:
    assert exit_status(errors.ConfigError("x")) == 2


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusal_is_3_until_something_was_written(kind: type[EngineError]) -> None:
    assert exit_status(kind("x"), wrote_to_target=False) == 3
    assert exit_status(kind("x"), wrote_to_target=True) == 4


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("wrote", [False, True])
def test_failure_is_4(kind: type[EngineError], wrote: bool) -> None:
    assert exit_status(kind("x"), wrote_to_target=wrote) == 4


def test_rejected_write_is_4() -> None:
    error = TargetRejected("x", command="SET", key=b"k", reply="OOM", offset=1)

    assert exit_status(error, wrote_to_target=True) == 4


def test_bug_is_4() -> None:
    assert exit_status(ZeroDivisionError()) == 4


def test_every_error_of_the_tree_has_been_thought_of() -> None:
    def leaves(kind: type[EngineError]) -> set[type[EngineError]]:
        below = [it for it in kind.__subclasses__() if it.__module__ == "engine.errors"]
        return set().union(*(leaves(one) for one in below)) if below else {kind}

    known = {*REFUSALS, *FAILURES, errors.ConfigError, TargetRejected}
    assert known == leaves(EngineError)
