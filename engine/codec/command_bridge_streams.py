"""Commands on streams for targets that lack them or options of them (t_stream.c); see command_bridge."""

from __future__ import annotations

from engine.codec.command_support import (
    ENTRIES_READ_SINCE,
    CannotBridge,
    CommandSupport,
    Words,
    number_at,
)

REFERENCES = frozenset({b"KEEPREF", b"DELREF", b"ACKED"})
MESSAGE_IDS = {b"IDMP": 3, b"IDMPAUTO": 2}  # options of XADD, with their arguments


def _without_pair(words: Words, first: int, *options: bytes) -> Words:
    """`words` without these options and the argument of each, looked for from `first` on."""
    kept, index = words[:first], first
    while index < len(words):
        if words[index].upper() in options:
            index += 1
        else:
            kept.append(words[index])
        index += 1
    return kept


def _xgroup(words: Words, support: CommandSupport) -> list[Words]:
    if support.level >= ENTRIES_READ_SINCE or words[1].upper() not in {b"CREATE", b"SETID"}:
        return [words]
    return [_without_pair(words, 5, b"ENTRIESREAD")]


def _xsetid(words: Words, support: CommandSupport) -> list[Words]:
    if support.level >= ENTRIES_READ_SINCE:
        return [words]
    return [_without_pair(words, 3, b"ENTRIESADDED", b"MAXDELETEDID")]


def _is_trim_option(words: Words, index: int) -> bool:
    """Whether the options go on at `index`: the entry's id ends those of XADD."""
    return words[index].upper() in {b"NOMKSTREAM", b"MAXLEN", b"MINID", b"LIMIT", b"=", b"~"} | (
        REFERENCES | MESSAGE_IDS.keys()
    ) or (words[index - 1].upper() in {b"MAXLEN", b"MINID", b"LIMIT", b"=", b"~"})


def _xadd(words: Words, support: CommandSupport) -> list[Words]:
    kept, index = words[:2], 2
    while index < len(words) and _is_trim_option(words, index):
        option = words[index].upper()
        if option in REFERENCES and support.lacks(b"XDELEX"):
            _refuse_references(option)
            index += 1
        elif option in MESSAGE_IDS and support.lacks(b"XCFGSET"):
            index += MESSAGE_IDS[option]
        else:
            kept.append(words[index])
            index += 1
    return [kept + words[index:]]


def _xtrim(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"XDELEX"):
        return [words]
    for option in words[4:]:
        if option.upper() in REFERENCES:
            _refuse_references(option.upper())
    return [words[:2] + [it for it in words[2:] if it.upper() not in REFERENCES]]


def _refuse_references(option: bytes) -> None:
    if option != b"KEEPREF":
        raise CannotBridge(f"the target has no {option.decode()}: it depends on the groups")


def _xdelex(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"XDELEX"):
        return [words]
    return [[b"XDEL", words[1], *_ids(words, 2)]]


def _xackdel(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"XACKDEL"):
        return [words]
    ids = _ids(words, 3)
    return [[b"XACK", words[1], words[2], *ids], [b"XDEL", words[1], *ids]]


def _ids(words: Words, at: int) -> Words:
    """The ids of XDELEX and XACKDEL, whose option stands before IDS."""
    option = words[at].upper()
    if option in REFERENCES:
        _refuse_references(option)
        at += 1
    if words[at].upper() != b"IDS":
        raise CannotBridge("its form is not known")
    return words[at + 2 : at + 2 + number_at(words, at + 1)]


RULES = {
    b"XGROUP": _xgroup,
    b"XSETID": _xsetid,
    b"XADD": _xadd,
    b"XTRIM": _xtrim,
    b"XDELEX": _xdelex,
    b"XACKDEL": _xackdel,
}
