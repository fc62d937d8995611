"""DUMP payloads of a source made fit for a target (cluster.c, createDumpPayload and verifyDumpPayload)."""

from __future__ import annotations

from engine.codec.bridge import ValueBridge
from engine.codec.crc64 import crc64
from engine.codec.decode import FIRST_VALKEY_VERSION, FOOTER_BYTES, metadata_end, mvcc_start


def payload_for(
    payload: bytes, values: ValueBridge, *, rdb_version: int, takes_key_metadata: bool
) -> bytes | None:
    """The payload with the target's RDB version, its value in a form that the target knows.

    None: the target cannot hold the value, and `values.reason` says why. Bytes that are no payload come back as they
    are, for the target to refuse.
    Raises:
        CorruptRdb: a value that would have to be rewritten is not sound.
    """
    if len(payload) < FOOTER_BYTES + 2:
        return payload
    is_valkey = int.from_bytes(payload[-10:-8], "little") >= FIRST_VALKEY_VERSION
    body = payload[:-FOOTER_BYTES]
    start = metadata_end(body, is_valkey)
    value_type, value = body[start], body[start + 1 :]
    if not values.knows(value_type, is_valkey):
        written = values.bridged(value_type, is_valkey, value[: mvcc_start(value)])
        if written is None:
            return None
        value_type, value = written
    head = body[:start] if takes_key_metadata else b""
    body = head + bytes([value_type]) + value + rdb_version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")
