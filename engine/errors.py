"""Every error the engine raises on purpose, by whose fault it is.

EngineError
├── ConfigError               the operator's input: an option, a URL, a settings file        exit 2
├── SourceError               the source, or the way to it
│   ├── SourceUnreachable     no connection could be made                                    exit 3
│   ├── SourceAuthError       credentials or permissions refused; a retry cannot help        exit 3
│   ├── SourceRefused         the source will not serve a replica (version, role, setting)   exit 3
│   ├── SourceNotReady        LOADING, NOMASTERLINK …: the same request may succeed later    retried
│   ├── SourceLinkLost        the connection broke or went silent                            reconnect
│   ├── SourceProtocolError   bytes that the replication protocol does not allow             exit 4
│   ├── StreamOutOfStep       what was received of the stream is damaged: received again     exit 4
│   ├── CorruptRdb            a snapshot that is not what the format says                    exit 4
│   └── CorruptAof            an append-only file that is damaged, or is not whole           exit 3
├── TargetError               the target, or the way to it
│   ├── TargetUnreachable     no connection could be made                                    exit 3
│   ├── TargetAuthError       credentials or permissions refused                             exit 3
│   ├── TargetRefused         the target cannot take this task (role, cluster, conflict)     exit 3
│   ├── TargetNotReady        LOADING, READONLY, OOM …: the same request may succeed later   retried
│   ├── TargetLinkLost        the connection broke                                           reconnect
│   ├── CheckpointMoved       somebody else has written the checkpoint; nothing was applied  read again
│   ├── TargetRejected        an error reply to a write; names command, key and offset       exit 4
│   └── UnsupportedByTarget   a value or a function that this target cannot hold             exit 3
├── TaskNotReached            a running task of this machine does not answer or refuses      exit 3
├── SpoolDamaged              what the spool wrote to disk cannot be read back                reconnect
├── LedgerError               the list of the keys brought cannot be kept (disk, access)     exit 3
└── InternalError             a bug of ours                                                  exit 4

SourceUnreachable, SourceAuthError … end the process with 3 only while nothing has been written to the
target; afterwards they end it with 4 (see engine/control/exit_status.py).
"""

from __future__ import annotations

import shlex
import sys


def install_hint(extra: str) -> str:
    """What to type for a package that is missing: the extra that brings it, from the project's folder, into this Python."""
    return f"in the project's folder: {shlex.quote(sys.executable)} -m pip install '.[{extra}]'"


class EngineError(Exception):
    """A failure with its facts and its remedy.

    message: what happened, in one line, naming the thing. detail: the facts behind it (what was asked,
    what was found). hint: what the operator can do. None of them ever holds a password.
    """

    def __init__(self, message: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        text = self.message
        if self.detail:
            text = f"{text.removesuffix('.')} ({self.detail})"
        if self.hint:
            # The messages of servers end in their own way.
            text += f" {self.hint}" if text.endswith((".", "?", "!")) else f". {self.hint}"
        return text


class ConfigError(EngineError):
    """The operator's input cannot be used as it is."""


class SourceError(EngineError):
    """The source, or the way to it."""


class SourceUnreachable(SourceError):
    """No connection to the source could be made."""


class SourceAuthError(SourceError):
    """The source refused the credentials or the permissions of the user."""


class SourceRefused(SourceError):
    """The source will not serve a replica."""


def slots_moving(what: str, *, how: str = "are moving") -> SourceRefused:
    """Slots of a source cluster are on their way from one shard to another, or have been (how). what: what says so."""
    return SourceRefused(
        f"slots of the source {how}: {what}",
        detail="what the old shard and the new one say of a moved key has no order in common, "
        "so keys of those slots may be wrong on the target",
        hint="finish the move; then migrate anew: redis-ferry tasks forget, an empty target, and the same command",
    )


class SourceNotReady(SourceError):
    """The source cannot answer now (LOADING, NOMASTERLINK); the same request may succeed later."""


class SourceLinkLost(SourceError):
    """The replication connection broke or went silent."""


class SourceProtocolError(SourceError):
    """Bytes from the source that the replication protocol does not allow."""


class StreamOutOfStep(SourceError):
    """No command begins where one must: bytes of the stream were lost or changed. `offset`: of that place."""

    def __init__(self, message: str, *, offset: int = -1, detail: str = "", hint: str = "") -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.offset = offset


class CorruptRdb(SourceError):
    """A snapshot that is not what the format says. `offset` counts bytes from the start of the RDB."""

    def __init__(self, message: str, *, offset: int = -1, detail: str = "", hint: str = "") -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.offset = offset


class CorruptAof(SourceError):
    """An append-only file that no server would load. `file`: its name; `offset`: of the damage, -1 if it has none."""

    def __init__(
        self, message: str, *, offset: int = -1, file: str = "", detail: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, detail=detail, hint=hint)
        self.offset = offset
        self.file = file


class TargetError(EngineError):
    """The target, or the way to it."""


class TargetUnreachable(TargetError):
    """No connection to the target could be made."""


class TargetAuthError(TargetError):
    """The target refused the credentials or the permissions of the user."""


class TargetRefused(TargetError):
    """The target cannot take this task."""


class TargetNotReady(TargetError):
    """The target cannot take writes now; the same request may succeed later. `code` is its own word for it."""

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class TargetLinkLost(TargetError):
    """The connection to the target broke."""


class CheckpointMoved(TargetError):
    """A transaction did not happen because the write before it is not there, or somebody else has taken over."""


class TargetRejected(TargetError):
    """The target answered a write with an error.

    command: its name in upper case. key: its first key, empty if it has none. reply: the error text.
    offset: the replication offset at the end of the block it was sent in, -1 in the snapshot phase.
    """

    def __init__(
        self, message: str, *, command: str, key: bytes, reply: str, offset: int, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.command = command
        self.key = key
        self.reply = reply
        self.offset = offset


class UnsupportedByTarget(TargetError):
    """A value or a function that this target cannot hold."""


class TaskNotReached(EngineError):
    """A task that runs on this machine did not answer on its control socket, or did not do what was asked."""


class SpoolDamaged(EngineError):
    """What the spool wrote to disk cannot be read back. The spool has dropped it; the source may still have it."""


class LedgerError(EngineError):
    """The list of the keys that the task brought cannot be kept or read."""


class InternalError(EngineError):
    """A state that cannot be: a bug of ours."""
