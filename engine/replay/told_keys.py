"""Where the keys of commands stand that the table does not know, those of modules: the target itself is asked, once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.codec.command_keys import Access, KeyAt, keys_of
from engine.control_client import LOST, control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import TargetNotReady
from engine.settings import TargetSettings

Shape = tuple[bytes, ...]

MOST_SHAPES = 10_000
# A word that may be an option, WITH_SCORES or int: names of keys seldom look like it, and then it costs a question each.
# Digits only in upper case, as options are mostly written (FLOAT32), or every user1 would be asked about.
_WORD = re.compile(rb"[A-Za-z_-]{1,16}|[A-Z][A-Z0-9_-]{0,15}")
_LONGEST_COUNT = 10
# Answers of GETKEYS: it has no keys, or these are no arguments of it (server.c, getKeysSubcommand).
_HAS_NONE = re.compile(r"no key arguments|nvalid (command|arguments|number of arguments)")


class ToldKeys:
    """The keys of any command. questions: asked of the target so far."""

    def __init__(self, settings: TargetSettings) -> None:
        self._settings = settings
        self._fixed: dict[bytes, tuple[int, int, int] | None] = {}
        self._by_shape: dict[Shape, list[KeyAt]] = {}
        self.questions = 0

    async def keys_of(self, arguments: Sequence[bytes], endpoint: Endpoint) -> list[KeyAt]:
        """The keys in the order of their places; none for a command without keys, or one that the target lacks.

        Raises:
            TargetNotReady: the target does not answer; nothing of the command was sent.
        """
        found = keys_of(arguments)
        if found is not None:
            return found
        name = arguments[0].upper()
        if name not in self._fixed:
            self._fixed[name] = await self._ask_info(name, endpoint)
        fixed = self._fixed[name]
        if fixed is not None:
            return _at(fixed, len(arguments))
        shape = shape_of(arguments)
        known = self._by_shape.get(shape)
        if known is None:
            known, is_certain = await self._ask_keys(arguments, endpoint)
            if len(self._by_shape) >= MOST_SHAPES:
                self._by_shape.clear()
            if is_certain:
                self._by_shape[shape] = known
        return known

    async def _ask_info(self, name: bytes, endpoint: Endpoint) -> tuple[int, int, int] | None:
        """First, last and step; None where they depend on the arguments."""
        reply = await self._ask(endpoint, "COMMAND", "INFO", name)
        if not reply or not reply[0]:
            return 0, 0, 0
        flags = {it if isinstance(it, bytes) else str(it).encode() for it in reply[0][2]}
        if b"movablekeys" in flags:
            return None
        return int(reply[0][3]), int(reply[0][4]), int(reply[0][5])

    async def _ask_keys(
        self, arguments: Sequence[bytes], endpoint: Endpoint
    ) -> tuple[list[KeyAt], bool]:
        """The keys, and whether it is certain which of the arguments they are."""
        told = await self._ask(endpoint, "COMMAND", "GETKEYS", *arguments) or []
        keys = [bytes(it) for it in told]
        places = [KeyAt(n, Access.CHANGES) for n, it in enumerate(arguments) if n and it in keys]
        return places, len(places) == len(keys)

    async def _ask(self, endpoint: Endpoint, *words: str | bytes) -> Any:
        self.questions += 1
        client = control_client(endpoint, timeout_seconds=self._settings.connect_timeout_seconds)
        try:
            client.response_callbacks.clear()
            reply = await client.execute_command(*words)  # type: ignore[no-untyped-call]
            raise_if_cancelled()
        except LOST as error:
            raise_if_cancelled()
            if _HAS_NONE.search(str(error)):
                return None
            raise TargetNotReady(
                f"the target {endpoint.address} cannot be asked for the keys of {words[2]!r}: {error}",
                code="TRYAGAIN",
            ) from error
        finally:
            await client.aclose()
        return reply


def shape_of(arguments: Sequence[bytes]) -> Shape:
    """What the places of keys can depend on: the name, how many arguments there are, words and counts among them.

    A number above that of the arguments counts none of them.
    """
    most = len(arguments)
    name, *rest = arguments
    return (
        name.upper(),
        *(
            it.upper()
            if _WORD.fullmatch(it)
            or (it.isdigit() and len(it) <= _LONGEST_COUNT and int(it) <= most)
            else b"*"
            for it in rest
        ),
    )


def _at(fixed: tuple[int, int, int], count: int) -> list[KeyAt]:
    first, last, step = fixed
    if not first:
        return []
    last = last + count if last < 0 else last
    return [
        KeyAt(index, Access.CHANGES)
        for index in range(first, min(last, count - 1) + 1, max(step, 1))
    ]
