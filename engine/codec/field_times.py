"""Moves the expiries of hash fields inside a value, as the RDB holds them.

    type 24         8 byte earliest expiry; fields' own are relative to it       rdb.c, rdbSaveObject (hash metadata)
    type 25         8 byte earliest expiry, STR listpack: field, value, expiry (0: none), …   listpackex
    Valkey type 22  8 byte expiry behind each field and value, -1: none

A moment of our days takes a 64 bit integer in a listpack, before and behind the move, so it is changed in place.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.errors import CorruptRdb

HEADER_BYTES = 6  # u32 bytes, u16 count
INT64 = 0xF4


def listpack_with_later_times(body: bytes, margin_ms: cython.longlong) -> bytes:
    """The listpack of a type 25 value with every third element, where it is a moment, so much later.

    Raises:
        CorruptRdb: it ends in the middle of an element; the offset counts in `body`.
    """
    changed: bytearray = bytearray(body)
    end: cython.Py_ssize_t = len(body)
    at: cython.Py_ssize_t = HEADER_BYTES
    after: cython.Py_ssize_t
    element: cython.int = 0
    while at < end and changed[at] != 0xFF:
        after = entry_end(changed, at, end)
        if element == 2 and changed[at] == INT64:
            moment = int.from_bytes(changed[at + 1 : at + 9], "little", signed=True) + margin_ms
            changed[at + 1 : at + 9] = moment.to_bytes(8, "little", signed=True)
        element = (element + 1) % 3
        at = after
    return bytes(changed)


def entry_end(body: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Where the element behind the one at `at` begins (listpack.c, lpCurrentEncodedSizeUnsafe, lpEncodeBacklen)."""
    first: cython.int = body[at]
    size: cython.Py_ssize_t
    if first < 0x80:
        size = 1
    elif first < 0xC0:
        size = 1 + (first & 0x3F)
    elif first < 0xE0:
        size = 2
    elif first < 0xF0:
        if at + 2 > end:
            raise CorruptRdb("listpack: cut short", offset=at)
        size = 2 + (((first & 0x0F) << 8) | body[at + 1])
    elif first == 0xF0:
        if at + 5 > end:
            raise CorruptRdb("listpack: cut short", offset=at)
        size = 5 + int.from_bytes(body[at + 1 : at + 5], "little")
    elif first == 0xF1:
        size = 3
    elif first == 0xF2:
        size = 4
    elif first == 0xF3:
        size = 5
    elif first == INT64:
        size = 9
    else:
        raise CorruptRdb(f"listpack: no element begins with {first:#x}", offset=at)
    back: cython.Py_ssize_t = 1
    if size > 127:
        back = 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5
    if at + size + back > end:
        raise CorruptRdb("listpack: cut short", offset=at)
    return at + size + back


def length_prefixed(body: bytes) -> bytes:
    """`body` as a plain STR of an RDB (rdb.c, rdbSaveLen)."""
    count = len(body)
    if count < 64:
        return bytes([count]) + body
    if count < 16384:
        return bytes([0x40 | count >> 8, count & 0xFF]) + body
    return b"\x80" + count.to_bytes(4, "big") + body
