"""Which keys a block of the stream may have found expired on the target, although it renews them. Pure.

A block without margins that reaches the target late (the target or the network stood still, a limit held it) comes
after expiries that it should have come before. The key is then gone, or begun anew by the block itself: nothing in
the replies tells. So the keys are noted, to be fetched from the source as a whole (settlement.py).
"""

from __future__ import annotations

from collections.abc import Collection

from engine.codec.name_table import NameTable
from engine.codec.named_commands import NamedCommands
from engine.replay.owed import Key

# What keeps a key, or fields of it, alive: argument 1.
_RENEWING = frozenset(
    b"EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST GETEX "
    b"HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST HSETEX HGETEX".split()
)
# What is made of other keys: the argument that names the result.
_RESULT_AT = dict.fromkeys(
    b"SUNIONSTORE SINTERSTORE SDIFFSTORE ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE GEOSEARCHSTORE PFMERGE".split(),
    1,
) | dict.fromkeys(b"RENAME RENAMENX COPY SMOVE RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE BITOP".split(), 2)
_STORE_OPTIONS = frozenset({b"STORE", b"STOREDIST"})
_WITH_STORE_OPTION = frozenset({b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER"})
_LOOKED_AT = NameTable(
    (name, 0)
    for name in (*_RENEWING, *_RESULT_AT, *_WITH_STORE_OPTION, b"SELECT", b"SWAPDB", b"MOVE")
)


def keys_in_doubt(
    data: bytes, before: Collection[Key] = (), *, renews: bool = True, makes: bool = True
) -> set[Key]:
    """(database, key) of all that a block renews or makes of other keys, as they stand behind it.

    data: a block's, it begins in database 0. before: those of the blocks before it; SWAPDB takes them along.
    renews, makes: False adds none of those.
    """
    db = 0
    found = set(before)
    for command in NamedCommands(_LOOKED_AT, data):
        name = command[0].upper()
        if name == b"SELECT":
            db = int(command[1])
        elif name == b"SWAPDB":
            found = swapped(found, int(command[1]), int(command[2]))
        elif name in _RENEWING:
            if renews:
                found.add((db, command[1]))
        elif makes:
            found |= _made(name, command, db)
    return found


def swapped(keys: Collection[Key], first_db: int, second_db: int) -> set[Key]:
    """Where keys stand behind SWAPDB."""
    moved = {first_db: second_db, second_db: first_db}
    return {(moved.get(db, db), key) for db, key in keys}


def _made(name: bytes, command: list[bytes], db: int) -> set[Key]:
    if name in _RESULT_AT:
        return _result(name, command, db)
    if name == b"MOVE":
        return {(int(command[2]), command[1])}
    if name in _WITH_STORE_OPTION:
        upper = [text.upper() for text in command]
        return {
            (db, key)
            for word, key in zip(upper, command[1:], strict=False)
            if word in _STORE_OPTIONS
        }
    return set()


def _result(name: bytes, command: list[bytes], db: int) -> set[Key]:
    key = command[_RESULT_AT[name]]
    if name == b"COPY":
        options = [text.upper() for text in command[3:]]
        if b"DB" in options:
            db = int(command[3 + options.index(b"DB") + 1])
    return {(db, key)}
