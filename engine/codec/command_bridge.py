"""Commands of a source's stream in the words of a target that lacks them, where the effect is exactly the same.

What a source replicates has had its effect there: conditions (NX, IFEQ …) held, amounts are known. So a newer command
often is an older one and no more. Where it is not, the target cannot have it, and `CannotBridge` says why.
Sources: the command pages of Redis and Valkey; t_string.c, t_hash.c, t_stream.c (what each replicates).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from engine.codec.command_bridge_hashes import RULES as HASH_RULES
from engine.codec.command_bridge_streams import RULES as STREAM_RULES
from engine.codec.command_support import (
    ENTRIES_READ_SINCE,
    MOMENTS_SINCE,
    CannotBridge,
    CommandSupport,
    Words,
    number_at,
)
from engine.codec.payload import payload_for

Rule = Callable[[Words, CommandSupport], list[Words]]

EMPTY_GEO_SINCE = (6, 2, 6)  # a search in a key that is not there deletes the destination
TAKES_VALUE = frozenset({b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"})
NEW_BIT_OPERATIONS = frozenset({b"DIFF", b"DIFF1", b"ANDOR", b"ONE"})


def names_to_look_at(support: CommandSupport) -> frozenset[bytes]:
    """Commands the target knows that may still come with options it does not know, or with a payload."""
    names = {b"RESTORE"}
    if support.level < ENTRIES_READ_SINCE:
        names |= {b"XGROUP", b"XSETID"}
    if _deletes_empty_geo(support):
        names |= {b"GEOSEARCHSTORE", b"GEORADIUS", b"GEORADIUSBYMEMBER"}
    if support.lacks(b"XDELEX"):
        names |= {b"XADD", b"XTRIM", b"BITOP"}
    if support.lacks(b"XCFGSET"):
        names.add(b"XADD")
    if support.level < MOMENTS_SINCE or not support.takes_conditions:
        names.add(b"SET")
    return frozenset(names)


def bridge_command(words: Words, support: CommandSupport) -> list[Words]:
    """The commands that do on the target what `words` did at the source; [words] when it takes them as they are.

    Raises:
        CannotBridge: nothing does.
    """
    name = words[0].upper()
    rule = _RULES.get(name)
    if rule is not None:
        return rule(words, support)
    if support.lacks(name):
        raise CannotBridge("the target does not know this command")
    return [words]


# --- strings --------------------------------------------------------------------------------------------


def _set(words: Words, support: CommandSupport) -> list[Words]:
    written, after = words[:3], []
    index = 3
    while index < len(words):
        option = words[index].upper()
        if option in TAKES_VALUE and not support.takes_conditions:
            index += 1  # it held at the source
        elif option in {b"PXAT", b"EXAT"} and support.level < MOMENTS_SINCE:
            index += 1
            unit = b"PEXPIREAT" if option == b"PXAT" else b"EXPIREAT"
            after.append([unit, words[1], *words[index : index + 1]])
        else:
            written.append(words[index])
        index += 1
    return [written, *after]


def _getex(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"GETEX"):
        return [words]
    options = [it.upper() for it in words[2:]]
    if options[:1] == [b"PERSIST"]:
        return [[b"PERSIST", words[1]]]
    named = {b"PXAT": b"PEXPIREAT", b"EXAT": b"EXPIREAT", b"PX": b"PEXPIRE", b"EX": b"EXPIRE"}
    if len(options) == 2 and options[0] in named:
        return [[named[options[0]], words[1], words[3]]]
    return []


def _msetex(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"MSETEX"):
        return [words]
    first = 2 + 2 * number_at(words, 1)
    options = [it for it in words[first:] if it.upper() not in {b"NX", b"XX"}]
    pairs = zip(words[2:first:2], words[3:first:2], strict=True)
    return [made for key, value in pairs for made in _set([b"SET", key, value, *options], support)]


def _deletes(original: bytes) -> Callable[[Words, CommandSupport], list[Words]]:
    """GETDEL, DELEX, DELIFEQ: the key is gone, whatever the condition was."""

    def rule(words: Words, support: CommandSupport) -> list[Words]:
        return [[b"DEL", words[1]]] if support.lacks(original) else [words]

    return rule


def _bitop(words: Words, support: CommandSupport) -> list[Words]:
    if support.lacks(b"XDELEX") and words[1].upper() in NEW_BIT_OPERATIONS:
        raise CannotBridge(f"the target has no BITOP {words[1].decode('ascii', 'replace')}")
    return [words]


def _restore(words: Words, support: CommandSupport) -> list[Words]:
    if len(words) < 4:
        return [words]
    payload = payload_for(
        words[3],
        support.values,
        rdb_version=support.rdb_version,
        takes_key_metadata=support.takes_key_metadata,
    )
    if payload is None:
        raise CannotBridge(support.values.reason)
    return [[*words[:3], payload, *words[4:]]]


# --- lists, sorted sets ---------------------------------------------------------------------------------


def _lmove(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"LMOVE"):
        return [words]
    if [it.upper() for it in words[3:5]] == [b"RIGHT", b"LEFT"]:
        return [[b"RPOPLPUSH", *words[1:3]]]
    raise CannotBridge("only LMOVE … RIGHT LEFT has an older form")


def _pops(original: bytes, sides: dict[bytes, bytes]) -> Callable[..., list[Words]]:
    """LMPOP and ZMPOP of one key: sources send the older form already, but modules may not."""

    def rule(words: Words, support: CommandSupport) -> list[Words]:
        if not support.lacks(original):
            return [words]
        if number_at(words, 1) != 1 or words[3].upper() not in sides:
            raise CannotBridge("which key it popped from is not known")
        amount = words[5:6] if [it.upper() for it in words[4:5]] == [b"COUNT"] else [b"1"]
        return [[sides[words[3].upper()], words[2], *amount]]

    return rule


def _deletes_empty_geo(support: CommandSupport) -> bool:
    """Whether the source deletes where the target does not."""
    return support.version < EMPTY_GEO_SINCE <= support.source_version


def _geo(words: Words, support: CommandSupport) -> list[Words]:
    """A search that is stored: older servers leave the destination alone where the source key is missing (geo.c)."""
    destination = origin = words[1]
    if words[0].upper() == b"GEOSEARCHSTORE":
        origin = words[2]
    else:
        for option, name in pairwise(words[4:]):
            if option.upper() in {b"STORE", b"STOREDIST"}:
                destination = name
    if destination == origin or not _deletes_empty_geo(support):
        return [words]
    return [[b"DEL", destination], words]


# --- the rest -------------------------------------------------------------------------------------------


def _leaves_nothing(original: bytes) -> Callable[[Words, CommandSupport], list[Words]]:
    """No data: what a target that lacks the command could not show either."""

    def rule(words: Words, support: CommandSupport) -> list[Words]:
        return [] if support.lacks(original) else [words]

    return rule


def _function(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"FUNCTION"):
        return [words]
    if words[1].upper() in {b"DELETE", b"FLUSH"}:
        return []
    raise CannotBridge("functions need a target of version 7.0 or newer")


_RULES: dict[bytes, Rule] = {
    **HASH_RULES,
    **STREAM_RULES,
    b"SET": _set,
    b"GETEX": _getex,
    b"GETDEL": _deletes(b"GETDEL"),
    b"DELEX": _deletes(b"DELEX"),
    b"DELIFEQ": _deletes(b"DELIFEQ"),
    b"MSETEX": _msetex,
    b"BITOP": _bitop,
    b"RESTORE": _restore,
    b"GEOSEARCHSTORE": _geo,
    b"GEORADIUS": _geo,
    b"GEORADIUSBYMEMBER": _geo,
    b"LMOVE": _lmove,
    b"LMPOP": _pops(b"LMPOP", {b"LEFT": b"LPOP", b"RIGHT": b"RPOP"}),
    b"ZMPOP": _pops(b"ZMPOP", {b"MIN": b"ZPOPMIN", b"MAX": b"ZPOPMAX"}),
    b"XCFGSET": _leaves_nothing(b"XCFGSET"),
    b"SPUBLISH": _leaves_nothing(b"SPUBLISH"),
    b"FUNCTION": _function,
}
