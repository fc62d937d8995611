"""The keys of one command, by the table of the servers' own specifications (command_table.py). Pure; not the hot path.

Source of how a specification is read: db.c, getKeysUsingKeySpecs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.codec.command_table import COMMANDS, KEYLESS, Spec


class Access(StrEnum):
    """What a command does with a key."""

    READS = "RO"
    CHANGES = "RW"
    OVERWRITES = "OW"
    REMOVES = "RM"


@dataclass(frozen=True, slots=True)
class KeyAt:
    """A key's place among a command's arguments."""

    index: int
    access: Access


_CONTAINERS = frozenset(it.split("|", 1)[0] for it in (*COMMANDS, *KEYLESS) if "|" in it)


def command_name(arguments: Sequence[bytes]) -> str:
    """The table's name of a command: upper case, with the subcommand of a container."""
    name = arguments[0].decode("ascii", "replace").upper()
    if name in _CONTAINERS and len(arguments) > 1:
        return f"{name}|{arguments[1].decode('ascii', 'replace').upper()}"
    return name


def keys_of(arguments: Sequence[bytes]) -> list[KeyAt] | None:
    """The keys in the order of their places; None for a command that the table does not know."""
    name = command_name(arguments)
    specs = COMMANDS.get(name, () if name in KEYLESS else None)
    if specs is None:
        return None
    found: dict[int, KeyAt] = {}
    if name in {"SORT", "GEORADIUS", "GEORADIUSBYMEMBER"}:
        return _with_store(arguments)
    for spec in specs:
        for index in _indexes(spec, arguments):
            found.setdefault(index, KeyAt(index, Access(spec[2][:2])))
    return [found[index] for index in sorted(found)]


def _with_store(arguments: Sequence[bytes]) -> list[KeyAt]:
    """The servers take the last STORE (sort.c, sortGetKeys; geo.c, georadiusGetKeys), as an option and not a pattern."""
    keys = [KeyAt(1, Access.READS)]
    at = {b"SORT": 2, b"GEORADIUS": 6}.get(arguments[0].upper(), 5)
    skips = {b"LIMIT": 2, b"GET": 1, b"BY": 1, b"COUNT": 1}
    stored = None
    while at < len(arguments):
        word = arguments[at].upper()
        if word in {b"STORE", b"STOREDIST"} and at + 1 < len(arguments):
            stored = KeyAt(at + 1, Access.OVERWRITES)
            at += 1
        at += 1 + skips.get(word, 0)
    return keys if stored is None else [*keys, stored]


def _indexes(spec: Spec, arguments: Sequence[bytes]) -> range:
    begin, (kind, first, second, third), _ = spec
    if isinstance(begin, tuple):
        at = _search(begin[0].encode(), begin[1], arguments)
        if at is None:
            return range(0)
    else:
        at = begin
    if kind == "range":
        step = max(second, 1)
        if first >= 0:
            last = at + first
        elif third:  # only a share of what is left are keys
            last = at + (len(arguments) - at) // third + first
        else:
            last = len(arguments) + first
        return range(at, min(last, len(arguments) - 1) + 1, step)
    count_at = at + first
    if count_at >= len(arguments) or not arguments[count_at].isdigit():
        return range(0)
    count = int(arguments[count_at][:9])
    start = at + second
    step = max(third, 1)
    return range(start, min(start + count * step, len(arguments)), step)


def _search(word: bytes, start: int, arguments: Sequence[bytes]) -> int | None:
    places = range(start, len(arguments)) if start > 0 else range(len(arguments) + start, 0, -1)
    for index in places:
        if arguments[index].upper() == word:
            return index + 1
    return None


def routing_rules() -> dict[str, tuple[int, int, int]]:
    """Commands whose keys are arguments first, first + step … last (negative: from the end), for the compiled router.

    (0, 0, 0): no keys. Commands that are not in it are for `keys_of`.
    """
    rules = {it: (0, 0, 0) for it in KEYLESS if "|" not in it and it not in _CONTAINERS}
    for name, specs in COMMANDS.items():
        if "|" in name or name in _CONTAINERS:
            continue
        simple = [_simple(it) for it in specs]
        if len(specs) == 1 and simple[0] is not None:
            rules[name] = simple[0]
    # Keys among the options; and what is refused by name, for it would fail when its transaction has begun.
    for name in ("SORT", "GEORADIUS", "GEORADIUSBYMEMBER", "MOVE"):
        rules.pop(name, None)
    return rules


def _simple(spec: Spec) -> tuple[int, int, int] | None:
    begin, (kind, last, step, limit), access = spec
    if not isinstance(begin, int) or kind != "range" or limit or access.endswith("?"):
        return None
    return begin, begin + last if last >= 0 else last, max(step, 1)
