"""The replica's side of the replication handshake, without a socket.

Reply lines in, the next command or a verdict out. The order is that of replication.c, syncWithMaster:
AUTH, PING, REPLCONF listening-port, ip-address, capa, version, PSYNC. Replies to REPLCONF may be errors
(servers before 2.8 and 3.x know fewer options) and then only mean "not known here".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from engine.codec.command_text import encode
from engine.endpoint import NO_PASSWORD_SET
from engine.errors import (
    SourceAuthError,
    SourceError,
    SourceNotReady,
    SourceProtocolError,
    SourceRefused,
)
from engine.position import Position

# The newest replica version whose RDB we read. Valkey 9 answers it with its own RDB 80; told nothing, it
# falls back to RDB 11, which cannot hold hash field TTLs and makes the sync fail (replicaRdbVersion).
TOLD_VERSION = "9.0.0"


@dataclass(frozen=True, slots=True)
class FullResync:
    """The source sends an RDB and then the stream from `position` on.

    `position.replid` is empty for a source without PSYNC (before 2.8).
    """

    position: Position


@dataclass(frozen=True, slots=True)
class PartialResync:
    """The stream goes on right behind the position that was asked for; `replid` may be a new one."""

    replid: str


Verdict = FullResync | PartialResync


class _Step(Enum):
    AUTH = auto()
    PING = auto()
    PORT = auto()
    ADDRESS = auto()
    CAPA = auto()
    VERSION = auto()
    PSYNC = auto()
    SYNC = auto()


_NOT_READY = ("LOADING", "NOMASTERLINK", "MASTERDOWN", "TRYAGAIN", "BUSY")
_AUTH = ("NOAUTH", "WRONGPASS", "NOPERM")
_AUTH_BEFORE_CODES = ("operation not permitted", "invalid password")
_NOT_READY_HINTS = {
    "LOADING": "it is loading its data: wait until it is up",
    "NOMASTERLINK": "it is a replica without a link to its primary: repair that, or use the primary's address",
    "MASTERDOWN": "it is a replica without a link to its primary: repair that, or use the primary's address",
    "BUSY": "a script holds it: wait for the script's end, or SCRIPT KILL",
}


class Handshake:
    """One handshake: send `start()`, then for every line received send what `receive_line` returns.

    address: the source's, for errors. resume_from: position to continue from, None for a full resync.
    """

    def __init__(
        self,
        *,
        address: str,
        username: str | None,
        password: str | None,
        listening_port: int,
        ip_address: str | None,
        resume_from: Position | None,
    ) -> None:
        self._source = f"the source {address}"
        self._username = username
        self._password = password
        self._port = listening_port
        self._address = ip_address
        self._resume_from = resume_from
        self._step = _Step.AUTH
        self.verdict: Verdict | None = None

    @property
    def step(self) -> str:
        """Name of the step whose reply is awaited: for logs and errors."""
        return self._step.name

    def start(self) -> bytes:
        """The first command to send."""
        if self._password is None:
            return self._enter(_Step.PING)
        return self._enter(_Step.AUTH)

    def receive_line(self, line: bytes) -> bytes | None:
        """Take one reply line without its line end; return what to send next, None when there is a verdict.

        Empty lines are the source's sign of life while it prepares its answer: nothing is sent for them (an
        empty bytes is returned).

        Raises:
            SourceAuthError: credentials or permissions; a retry cannot help.
            SourceNotReady: LOADING, NOMASTERLINK …; try again later.
            SourceRefused: the source does not serve replicas.
            SourceProtocolError: a reply this step cannot have.
        """
        if not line:
            return b""
        text = line.decode("utf-8", "replace")
        if text.startswith("-"):
            return self._receive_error(text[1:])
        if self._step is _Step.PSYNC:
            self.verdict = self._read_verdict(text)
            return None
        if not text.startswith("+"):
            raise self._unexpected(text)
        return self._after(self._step)

    def _enter(self, step: _Step) -> bytes:
        self._step = step
        if step is _Step.AUTH:
            if self._username is None:
                return encode("AUTH", self._password or "")
            return encode("AUTH", self._username, self._password or "")
        if step is _Step.PING:
            return encode("PING")
        if step is _Step.PORT:
            return encode("REPLCONF", "listening-port", self._port)
        if step is _Step.ADDRESS:
            return encode("REPLCONF", "ip-address", self._address or "")
        if step is _Step.CAPA:
            return encode("REPLCONF", "capa", "eof", "capa", "psync2")
        if step is _Step.VERSION:
            return encode("REPLCONF", "version", TOLD_VERSION)
        if step is _Step.SYNC:
            self.verdict = FullResync(Position("", 0))
            return encode("SYNC")
        if self._resume_from is None:
            return encode("PSYNC", "?", -1)
        return encode("PSYNC", self._resume_from.replid, self._resume_from.offset + 1)

    def _after(self, step: _Step) -> bytes:
        order = list(_Step)
        following = order[order.index(step) + 1]
        if following is _Step.ADDRESS and self._address is None:
            following = _Step.CAPA
        return self._enter(following)

    def _receive_error(self, text: str) -> bytes:
        code = text.split(" ", 1)[0]
        if code == "READER":
            raise SourceRefused(text.removeprefix("READER "))  # what stands for the source says it
        if code in _AUTH or any(words in text for words in (*_AUTH_BEFORE_CODES, *NO_PASSWORD_SET)):
            raise self._auth_error(text)
        if code in _NOT_READY:
            raise SourceNotReady(
                f"{self._source} is not ready: {text}", hint=_NOT_READY_HINTS.get(code, "")
            )
        if self._step in (_Step.PORT, _Step.ADDRESS, _Step.CAPA, _Step.VERSION):
            return self._after(self._step)  # an option this source does not know
        if self._step is _Step.PSYNC:
            lowered = text.lower()
            if "unknown command" in lowered and "psync" in lowered:
                return self._enter(_Step.SYNC)  # older than 2.8, or closed: then SYNC says so
        raise self._refused(text)

    def _refused(self, text: str) -> SourceError:
        return SourceRefused(
            f"{self._source} refused {self._step.name}: {text}",
            hint="the source must allow PSYNC and REPLCONF (managed services often rename or close them)",
        )

    def _auth_error(self, text: str) -> SourceError:
        who = f"user {self._username!r}" if self._username else "the default user"
        if text.startswith(("NOAUTH", "ERR operation not permitted")):
            return SourceAuthError(
                f"{self._source} asks for a password and none was given",
                hint="put it in the URL, in REDIS_FERRY_SOURCE_PASSWORD or in --source-password-file",
            )
        if any(words in text for words in NO_PASSWORD_SET):
            return SourceAuthError(
                f"{self._source} has no password, and one was given for {who}: {text}",
                hint="leave the password out, or give the user that it belongs to (redis://user@…)",
            )
        if text.startswith("NOPERM"):
            return SourceAuthError(
                f"{self._source} does not permit {self._step.name} to {who}: {text}",
                hint="grant it: ACL SETUSER <user> +ping +replconf +psync +sync +info",
            )
        return SourceAuthError(
            f"{self._source} refused the credentials of {who}: {text}",
            hint="check user and password; try them with redis-cli",
        )

    def _read_verdict(self, text: str) -> Verdict:
        words = text[1:].split()
        if text.startswith("+FULLRESYNC") and len(words) == 3 and words[2].lstrip("-").isdigit():
            return FullResync(Position(words[1], int(words[2])))
        if text.startswith("+CONTINUE") and self._resume_from is not None:
            return PartialResync(words[1] if len(words) > 1 else self._resume_from.replid)
        raise self._unexpected(text)

    def _unexpected(self, text: str) -> SourceError:
        return SourceProtocolError(
            f"{self._source} answered {self._step.name} with {text[:120]!r}",
            hint="is the address that of a Redis server?",
        )
