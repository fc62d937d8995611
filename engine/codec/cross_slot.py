"""What a command over several slots comes to, slot by slot. Pure; not the hot path.

A replicated command has had its effect at the source, so its conditions (NX, RENAMENX, whether SMOVE moved) hold. What
follows from that alone is done at once; of the other keys that it writes only the source knows the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.codec.command_keys import Access, KeyAt
from engine.codec.command_text import encode

# Each key by itself means the same.
_BY_KEY = frozenset({b"DEL", b"UNLINK", b"TOUCH"})
_REMOVES = frozenset({b"DEL", b"UNLINK"})
_BY_PAIR = frozenset({b"MSET", b"MSETNX"})
_RENAMES = frozenset({b"RENAME", b"RENAMENX"})
# A node of a cluster refuses patterns over keys that may be elsewhere (sort.c, sortCommandGeneric).
_PATTERNS = frozenset({b"BY", b"GET"})


@dataclass(frozen=True, slots=True)
class Piece:
    """A command on one key. is_removal: the key is gone behind it, whatever it was."""

    key: bytes
    command: bytes
    is_removal: bool = False


@dataclass(frozen=True, slots=True)
class Pieces:
    """exact: to be done at once. unknown: keys whose value is the source's to tell."""

    exact: list[Piece] = field(default_factory=list)
    unknown: list[bytes] = field(default_factory=list)


def pieces_of(arguments: Sequence[bytes], keys: Sequence[KeyAt]) -> Pieces:
    """Take a command apart. keys: where its keys stand."""
    name = arguments[0].upper()
    if name in _BY_KEY:
        removes = name in _REMOVES
        return Pieces([Piece(key, encode(name, key), removes) for key in arguments[1:]])
    if name in _BY_PAIR:
        pairs = zip(arguments[1::2], arguments[2::2], strict=False)
        return Pieces([Piece(key, encode("MSET", key, value)) for key, value in pairs])
    if name == b"SMOVE" and len(arguments) == 4:
        origin, result, member = arguments[1:]
        return Pieces(
            [
                Piece(origin, encode("SREM", origin, member)),
                Piece(result, encode("SADD", result, member)),
            ]
        )
    if name in _RENAMES and len(arguments) == 3:
        origin, result = arguments[1:]
        return Pieces([Piece(origin, encode("DEL", origin), True)], [result])
    return Pieces([], written_keys(arguments, keys))


def written_keys(arguments: Sequence[bytes], keys: Sequence[KeyAt]) -> list[bytes]:
    """The keys that a command may change; all of them where no key is said to be."""
    written = [arguments[it.index] for it in keys if it.access is not Access.READS]
    return list(dict.fromkeys(written or [arguments[it.index] for it in keys]))


def is_for_a_server_alone(arguments: Sequence[bytes]) -> bool:
    """Whether a node refuses the command although its keys are in one slot: SORT with patterns."""
    if arguments[0].upper() != b"SORT":
        return False
    at = 2
    while at < len(arguments):
        word = arguments[at].upper()
        if word in _PATTERNS and at + 1 < len(arguments):
            pattern = arguments[at + 1]
            if pattern != b"#" and (word == b"GET" or b"*" in pattern):
                return True
            at += 1
        elif word == b"LIMIT":
            at += 2
        elif word == b"STORE":
            at += 1
        at += 1
    return False
