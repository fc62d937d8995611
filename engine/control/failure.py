"""How an error reaches the user: on stderr, in one shape, for people or as an event."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from engine.errors import EngineError, SourceLinkLost, TargetLinkLost

# Where such an error is raised nobody knows whether it ends the run.
_AFTER_A_LOST_LINK = "run the same command again: it goes on from what the target has (--resume-mode auto does so by itself)"


def root_cause(error: BaseException) -> BaseException:
    """Take an error out of the groups that task groups make, our own kind before any other."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [root_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, EngineError)), causes[0])


def message_of(error: BaseException) -> str:
    """One line with everything there is to say: the `error` of the progress object."""
    if not isinstance(error, EngineError):
        return f"{type(error).__name__}: {error}"
    return str(EngineError(error.message, detail=error.detail, hint=remedy_of(error)))


def remedy_of(error: EngineError) -> str:
    """What the operator can do about an error that has ended the run; empty if there is nothing to say."""
    if not error.hint and isinstance(error, SourceLinkLost | TargetLinkLost):
        return _AFTER_A_LOST_LINK
    return error.hint


def print_failure(error: BaseException, *, json_lines: bool) -> None:
    """Write `error: message (detail)` and `hint: …`, or one event if logs are JSON.

    Logs must have been configured.
    """
    if isinstance(error, EngineError):
        message, detail, hint = error.message, error.detail, remedy_of(error)
    else:
        message, detail = f"internal error: {type(error).__name__}", str(error)
        hint = "this is a bug of redis-ferry; please report it with the lines above"
        _log_error("internal_error", exc_info=error)
    if json_lines:
        facts = {"error": message, "detail": detail, "hint": hint}
        _log_error("failed", **{name: text for name, text in facts.items() if text})
        return
    write_stderr(f"error: {message} ({detail})" if detail else f"error: {message}")
    if hint:
        write_stderr(f"hint: {hint}")


def write_stderr(text: str) -> None:
    """Write a line for people; a stderr that nobody reads is no error."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line's voice


def _log_error(event: str, **facts: Any) -> None:
    import structlog  # 150 ms, which `--help` and a mistyped option need not wait for

    structlog.get_logger("engine.control").error(event, **facts)
