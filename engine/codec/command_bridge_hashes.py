"""Commands on hash fields and their TTLs for targets that lack them (t_hash.c); see command_bridge."""

from __future__ import annotations

from engine.codec.command_support import CannotBridge, CommandSupport, Words, number_at


def _without_field_ttls(support: CommandSupport, kept: list[Words]) -> list[Words]:
    if not support.drops_field_ttls:
        raise CannotBridge("the target has no field TTLs (--field-ttls drop goes on without them)")
    support.fell_away["field TTLs"] = support.fell_away.get("field TTLs", 0) + 1
    return kept


def _field_expiry(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(words[0].upper()):
        return [words]
    return _without_field_ttls(support, [])


def _hpersist(words: Words, support: CommandSupport) -> list[Words]:
    # Where no field can expire, none has to be kept.
    return [] if support.lacks(b"HPERSIST") else [words]


def _fields(words: Words) -> int:
    """Where FIELDS stands among the options."""
    for index in range(2, min(len(words), 8)):
        if words[index].upper() == b"FIELDS":
            return index
    raise CannotBridge("its form is not known")


def _field_moment(words: Words, end: int) -> tuple[bytes, bytes] | None:
    units = {b"PXAT": b"HPEXPIREAT", b"EXAT": b"HEXPIREAT", b"PX": b"HPEXPIRE", b"EX": b"HEXPIRE"}
    for index in range(2, end - 1):
        if words[index].upper() in units:
            return units[words[index].upper()], words[index + 1]
    return None


def _hsetex(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"HSETEX"):
        return [words]
    at = _fields(words)
    count = number_at(words, at + 1)
    pairs = words[at + 2 : at + 2 + 2 * count]
    written = [[b"HSET", words[1], *pairs]]
    moment = _field_moment(words, at)
    if support.lacks(b"HPEXPIREAT"):
        return written if moment is None else _without_field_ttls(support, written)
    if b"KEEPTTL" in [it.upper() for it in words[2:at]]:
        raise CannotBridge("HSET would end the fields' TTLs, which HSETEX … KEEPTTL keeps")
    if moment is not None:
        written.append([moment[0], words[1], moment[1], b"FIELDS", words[at + 1], *pairs[::2]])
    return written


def _hgetex(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"HGETEX"):
        return [words]
    at = _fields(words)
    moment = _field_moment(words, at)
    if moment is not None:
        return _field_expiry([moment[0], words[1], moment[1], *words[at:]], support)
    if b"PERSIST" in [it.upper() for it in words[2:at]]:
        return _hpersist([b"HPERSIST", words[1], *words[at:]], support)
    return []


def _hgetdel(words: Words, support: CommandSupport) -> list[Words]:
    if not support.lacks(b"HGETDEL"):
        return [words]
    return [[b"HDEL", words[1], *words[_fields(words) + 2 :]]]


RULES = {
    b"HEXPIRE": _field_expiry,
    b"HPEXPIRE": _field_expiry,
    b"HEXPIREAT": _field_expiry,
    b"HPEXPIREAT": _field_expiry,
    b"HPERSIST": _hpersist,
    b"HSETEX": _hsetex,
    b"HGETEX": _hgetex,
    b"HGETDEL": _hgetdel,
}
