"""What the process ends with. Pure; scripts rely on these five numbers."""

from __future__ import annotations

from engine.errors import (
    ConfigError,
    CorruptAof,
    LedgerError,
    SourceAuthError,
    SourceNotReady,
    SourceRefused,
    SourceUnreachable,
    TargetAuthError,
    TargetNotReady,
    TargetRefused,
    TargetUnreachable,
    TaskNotReached,
    UnsupportedByTarget,
)

DONE = 0
USAGE = 2  # also what the option parser ends with
REFUSED = 3
FAILED = 4
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it; SIGTERM ends with the same

# A server that could not be reached or did not want us: harmless while the target is as it was.
_REFUSALS = (
    CorruptAof,
    LedgerError,
    SourceAuthError,
    SourceNotReady,
    SourceRefused,
    SourceUnreachable,
    TargetAuthError,
    TargetNotReady,
    TargetRefused,
    TargetUnreachable,
    TaskNotReached,
    UnsupportedByTarget,
)


def exit_status(
    error: BaseException | None, *, wrote_to_target: bool = False, finished: bool = True
) -> int:
    """Map the end of a run to its exit status.

    error: what ended it, None if nothing went wrong.
    wrote_to_target: the target is no longer as it was.
    finished: the migration reached its end; False when a signal stopped it before.
    """
    match error:
        case None:
            return DONE if finished else INTERRUPTED
        case KeyboardInterrupt():
            return INTERRUPTED
        case ConfigError():
            return USAGE
        case _ if isinstance(error, _REFUSALS) and not wrote_to_target:
            return REFUSED
        case _:
            return FAILED
