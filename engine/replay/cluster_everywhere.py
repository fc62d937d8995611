"""FUNCTION and SCRIPT on a cluster: to every primary, behind one another, each as often as it takes.

A crash repeats what came behind the last confirmed block; so each step finds out whether it is done already. A library is
another's, and no repetition, if it has other code and the stream's place was never reached before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from engine.codec.command_text import encode
from engine.codec.decode import FOOTER_BYTES
from engine.codec.value_items import ValueItems
from engine.control_client import LOST, control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import CorruptRdb, TargetError, TargetNotReady, TargetRejected
from engine.settings import ConflictPolicy, TargetSettings
from engine.stats import LineStats
from engine.target.replies import not_ready

log = structlog.get_logger("engine.replay")

# Sends a command to each primary, behind what it was sent before, and tells the error replies.
TellAll = Callable[[bytes], Awaitable[list[tuple[Endpoint, str]]]]

FUNCTION_LIBRARY = 245
MOST_SCRIPTS = 10_000
_EXISTS = "already exists"


class Everywhere:
    """One line's way to all primaries. reached: highest offset up to which all of this is on all of them."""

    def __init__(
        self,
        tell_all: TellAll,
        settings: TargetSettings,
        stats: LineStats,
        *,
        on_conflict: ConflictPolicy,
        reached: int,
    ) -> None:
        self._tell_all = tell_all
        self._settings = settings
        self._stats = stats
        self._on_conflict = on_conflict
        self._scripts: dict[bytes, bytes] = {}
        self.reached = reached

    # ---- libraries of functions

    async def function(self, arguments: list[bytes], offset: int) -> None:
        """FUNCTION of the source, or of its snapshot (offset -1).

        Raises:
            TargetRejected: the target has another library of the name, and --on-conflict fail; or it refuses.
        """
        what = arguments[1].upper() if len(arguments) > 1 else b""
        if what == b"LOAD":
            replaces = len(arguments) > 3 and arguments[2].upper() == b"REPLACE"
            await self._load(arguments[-1], offset, replaces=replaces)
        elif what == b"RESTORE" and len(arguments) > 2:
            how = arguments[3].upper() if len(arguments) > 3 else b"APPEND"
            if how == b"FLUSH":
                await self._tell(encode("FUNCTION", "FLUSH"), offset)
            for code in libraries_in(arguments[2]):
                await self._load(code, offset, replaces=how == b"REPLACE")
        elif what == b"DELETE":
            await self._tell(encode(*arguments), offset, passes="Library not found")
        else:
            await self._tell(encode(*arguments), offset)

    async def _load(self, code: bytes, offset: int, *, replaces: bool) -> None:
        again = encode("FUNCTION", "LOAD", "REPLACE", code)
        errors = await self._tell_all(again if replaces else encode("FUNCTION", "LOAD", code))
        for endpoint, text in errors:
            if _EXISTS not in text:
                raise _refusal("FUNCTION LOAD", text, endpoint, offset)
            found = await self._code_of(library_name(code), endpoint)
            if found == code:
                continue  # sent again, or by another line
            is_repeated = 0 <= offset <= self.reached
            if found is None:
                # A function of the name, in a library of another name.
                if not is_repeated:
                    raise _refusal("FUNCTION LOAD", text, endpoint, offset)
            elif is_repeated or self._on_conflict is ConflictPolicy.REPLACE:
                if not is_repeated:
                    log.warning(
                        "function.replaced",
                        library=library_name(code).decode("utf-8", "replace"),
                        target=endpoint.address,
                        why="the target had another library of this name (--on-conflict replace)",
                    )
                await self._tell(again, offset)
            elif self._on_conflict is ConflictPolicy.SKIP:
                self._stats.keys_skipped += 1
            else:
                raise _refusal("FUNCTION LOAD", text, endpoint, offset)

    async def _code_of(self, name: bytes, endpoint: Endpoint) -> bytes | None:
        client = control_client(endpoint, timeout_seconds=self._settings.connect_timeout_seconds)
        try:
            client.response_callbacks.clear()
            reply: Any = await client.execute_command(  # type: ignore[no-untyped-call]
                "FUNCTION", "LIST", "LIBRARYNAME", name, "WITHCODE"
            )
            raise_if_cancelled()
        except LOST as error:
            raise_if_cancelled()
            raise TargetNotReady(
                f"the target {endpoint.address} cannot be asked for its functions: {error}",
                code="TRYAGAIN",
            ) from error
        finally:
            await client.aclose()
        for library in reply:
            fields = dict(zip(library[::2], library[1::2], strict=False))
            if fields.get(b"library_name") == name:
                return bytes(fields[b"library_code"])
        return None

    # ---- scripts, of sources that replicate them as they are

    async def script(self, arguments: list[bytes], offset: int) -> None:
        """SCRIPT of the source."""
        what = arguments[1].upper() if len(arguments) > 1 else b""
        if what == b"FLUSH":
            self._scripts.clear()
        elif what == b"LOAD" and len(arguments) > 2:
            self._remember(arguments[2])
        await self._tell(encode(*arguments), offset)

    async def eval(self, arguments: list[bytes], offset: int) -> list[bytes]:
        """EVAL or EVALSHA as any primary can run it: who is sent a digest has not seen the script itself."""
        if len(arguments) < 2:
            return arguments
        text = arguments[1]
        if arguments[0].upper() == b"EVAL":
            if self._remember(text):
                await self._tell(encode("SCRIPT", "LOAD", text), offset)
            return arguments
        known = self._scripts.get(text.lower())
        return arguments if known is None else [b"EVAL", known, *arguments[2:]]

    def _remember(self, text: bytes) -> bool:
        """Whether the script is new."""
        digest = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        is_new = digest not in self._scripts
        if is_new and len(self._scripts) >= MOST_SCRIPTS:
            self._scripts.pop(next(iter(self._scripts)))
        self._scripts[digest] = text
        return is_new

    async def _tell(self, command: bytes, offset: int, *, passes: str = "") -> None:
        for endpoint, text in await self._tell_all(command):
            if not passes or passes not in text:
                name = command.split(b"\r\n")[2].decode("ascii", "replace")
                raise _refusal(name, text, endpoint, offset)


def library_name(code: bytes) -> bytes:
    """The name in a library's first line, `#!lua name=…` (functions.c, functionExtractLibMetaData)."""
    for word in code.split(b"\n", 1)[0].split():
        if word.lower().startswith(b"name="):
            return word[5:]
    return b""


def libraries_in(payload: bytes) -> list[bytes]:
    """The code of each library in the payload of FUNCTION RESTORE (functions.c, functionRestoreCommand).

    Raises:
        CorruptRdb: it is no such payload.
    """
    body = payload[:-FOOTER_BYTES]
    reader = ValueItems(7, False, body)
    found = []
    while reader.at < len(body):
        if reader.raw(1)[0] != FUNCTION_LIBRARY:
            raise CorruptRdb(
                "FUNCTION RESTORE with something else than libraries", offset=reader.at
            )
        found.append(bytes(reader.text()))
    return found


def _refusal(name: str, text: str, endpoint: Endpoint, offset: int) -> TargetError:
    return not_ready(endpoint, text) or TargetRejected(
        f"the target {endpoint.address} refused {name} at offset {offset} of the source: {text}",
        command=name,
        key=b"",
        reply=text,
        offset=offset,
        hint="remove that library or function on all primaries of the target if it is not needed there"
        if _EXISTS in text
        else "",
    )
