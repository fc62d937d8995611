"""Values as DUMP gives them, written as records of an RDB and as commands of a stream; nothing of them is decoded. Pure.

A payload is a value's type and bytes as in an RDB, then the RDB version (two bytes) and a CRC (rdb.c, rdbSaveObject;
cluster.c, createDumpPayload).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.codec.command_text import encode
from engine.codec.decode import FIRST_VALKEY_VERSION, FOOTER_BYTES, metadata_end, mvcc_start
from engine.codec.rdb_grammar import KEY_META

MVCC_MARK = b"mvcc-tstamp"
MVCC_BYTES = 64  # no more of a payload's end need be looked at for KeyDB's time stamp


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key as it was at one moment. payload: of DUMP; None: it is not there. expires_ms: since the epoch, -1: never."""

    name: bytes
    payload: bytes | None
    expires_ms: int


def rdb_version_of(payload: bytes) -> int:
    """The RDB version in its footer."""
    return int.from_bytes(payload[-FOOTER_BYTES : 2 - FOOTER_BYTES], "little")


def rdb_head(version: int) -> bytes:
    """What an RDB of this version begins with."""
    if version >= FIRST_VALKEY_VERSION:
        return b"VALKEY%03d" % version
    return b"REDIS%04d" % version


def rdb_end() -> bytes:
    """What it ends with: no checksum, the payloads have had theirs."""
    return b"\xff" + bytes(8)


def database_head(db: int, keys: int) -> bytes:
    """The records that begin a database: its number, and about how many keys follow."""
    return b"\xfe" + _length(db) + b"\xfb" + _length(keys) + _length(0)


def function_records(payload: bytes) -> bytes:
    """The libraries that FUNCTION DUMP gives, as records."""
    return payload[:-FOOTER_BYTES]


def key_records(states: Iterable[KeyState]) -> bytes:
    """The records of those keys that are there."""
    parts: list[bytes] = []
    for state in states:
        payload = state.payload
        if payload is None or len(payload) < FOOTER_BYTES + 2:
            continue
        if state.expires_ms >= 0:
            parts.append(b"\xfc" + state.expires_ms.to_bytes(8, "little"))
        name = state.name
        size = len(name)
        head = b"%c" % size if size < 64 else _length(size)
        if payload[0] == KEY_META:
            start = metadata_end(payload, rdb_version_of(payload) >= FIRST_VALKEY_VERSION)
            parts.append(payload[:start])
            payload = payload[start:]
        if MVCC_MARK in payload[-MVCC_BYTES:]:
            value = payload[1:-FOOTER_BYTES]
            parts += payload[:1], head, name, value[: mvcc_start(value)]
        else:
            parts += payload[:1], head, name, payload[1:-FOOTER_BYTES]
    return b"".join(parts)


def commands_for(states: Sequence[KeyState]) -> bytes:
    """The commands that give a database these states, whatever it has."""
    parts: list[bytes] = []
    for state in states:
        if state.payload is None:
            parts.append(encode("DEL", state.name))
        else:
            parts.append(
                b"*6\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%d\r\n$%d\r\n"
                % (
                    len(state.name),
                    state.name,
                    len(str(max(state.expires_ms, 0))),
                    max(state.expires_ms, 0),
                    len(state.payload),
                )
            )
            parts += state.payload, b"\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
    return b"".join(parts)


def _length(number: int) -> bytes:
    """As rdb.c, rdbSaveLen."""
    if number < 1 << 6:
        return bytes([number])
    if number < 1 << 14:
        return (number | 0x4000).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")
