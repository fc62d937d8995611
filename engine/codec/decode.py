"""RDB values to logical values, for those who want to look inside: inspect, bridging, comparison.

The hot path does not come here: RESTORE takes a value's bytes as they are.
"""

from __future__ import annotations

from engine.codec.crc64 import crc64
from engine.codec.logical import CronDetails, Details, LogicalValue, ModuleDetails
from engine.codec.rdb_grammar import KNOWN_REDIS_VERSIONS, KNOWN_VALKEY_VERSIONS
from engine.codec.stream_items import StreamItems
from engine.codec.value_check import check_value
from engine.codec.value_items import KINDS, ValueItems
from engine.errors import CorruptRdb

BATCH_ITEMS = 4096
BATCH_BYTES = 1 << 20
FOOTER_BYTES = 10
FIRST_VALKEY_VERSION = 80
KEY_META = 0xF3
MVCC_STAMP = b"\xfa\x0bmvcc-tstamp"  # an AUX record that KeyDB puts between value and footer
OPAQUE_KINDS = ("module", "cron")


def kind_of(value_type: int) -> str:
    """`string`, `list`, `set`, `zset`, `hash`, `stream`, `module`, `cron`; empty for a type that is not known."""
    return KINDS.get(value_type, "")


def open_items(value_type: int, is_valkey: bool, value: bytes) -> ValueItems:
    """A reader over the items of any value but a module's and a cron's.

    Raises:
        CorruptRdb: the type is not known or the value's head is not sound.
    """
    if kind_of(value_type) == "stream":
        return StreamItems(value_type, is_valkey, value)
    return ValueItems(value_type, is_valkey, value)


def decode_value(value_type: int, is_valkey: bool, value: bytes) -> LogicalValue:
    """The whole value in memory; as `check_value` the bytes are those of an RDB or DUMP payload without the type.

    Raises:
        CorruptRdb: it is not sound; the offset counts in `value`.
    """
    if kind_of(value_type) in OPAQUE_KINDS:
        check_value(value_type, is_valkey, value)
        return LogicalValue(
            kind_of(value_type), [], _opaque(ValueItems(value_type, is_valkey, value), value)
        )
    reader = open_items(value_type, is_valkey, value)
    items: list[object] = []
    while batch := reader.next_batch(BATCH_ITEMS, BATCH_BYTES):
        items += batch
    details: Details = reader.details() if isinstance(reader, StreamItems) else None
    return LogicalValue(reader.kind, items, details)


def decode_payload(payload: bytes) -> LogicalValue:
    """The value in a DUMP answer (cluster.c, createDumpPayload); key metadata and what KeyDB appends are passed over.

    Raises:
        CorruptRdb: it is not a sound payload of a known version.
    """
    if len(payload) < FOOTER_BYTES + 1:
        raise CorruptRdb(f"DUMP payload of {len(payload)} bytes", offset=0)
    version = int.from_bytes(payload[-10:-8], "little")
    if version not in KNOWN_REDIS_VERSIONS and version not in KNOWN_VALKEY_VERSIONS:
        raise CorruptRdb(
            f"RDB version {version} in a DUMP payload is not known", offset=len(payload) - 10
        )
    stored = int.from_bytes(payload[-8:], "little")
    if stored not in (0, crc64(payload[:-8])):
        raise CorruptRdb("DUMP payload with a wrong checksum", offset=len(payload) - 8)
    body = payload[:-FOOTER_BYTES]
    is_valkey = version >= FIRST_VALKEY_VERSION
    start = metadata_end(body, is_valkey)
    if start >= len(body):
        raise CorruptRdb("DUMP payload without a value", offset=start)
    value_type, value = body[start], body[start + 1 :]
    return decode_value(value_type, is_valkey, value[: mvcc_start(value)])


def metadata_end(body: bytes, is_valkey: bool) -> int:
    """Where the type byte stands: behind Redis 8.6's key metadata, if there is any (keymeta.c, keyMetaOnDump)."""
    if is_valkey or not body or body[0] != KEY_META:
        return 0
    reader = ValueItems(7, False, body)
    reader.skip(1)
    for _ in range(reader.count(5)):
        reader.skip(4)
        reader.skip_annotated()
    return reader.at


def mvcc_start(value: bytes) -> int:
    """Where a value ends that may have KeyDB's time stamp behind it."""
    start = value.rfind(MVCC_STAMP)
    if start < 0:
        return len(value)
    reader = ValueItems(7, False, value[start + len(MVCC_STAMP) :])
    try:
        reader.skip_string()
    except CorruptRdb:
        return len(value)
    return start if reader.at == len(value) - start - len(MVCC_STAMP) else len(value)


def _opaque(reader: ValueItems, value: bytes) -> Details:
    if reader.kind == "module":
        return ModuleDetails(reader.length(), value)
    script = reader.text()
    start_ms = int.from_bytes(reader.raw(8), "little", signed=True)
    interval_ms = int.from_bytes(reader.raw(8), "little", signed=True)
    keys = tuple(reader.text() for _ in range(reader.count(1)))
    return CronDetails(
        script, start_ms, interval_ms, keys, tuple(reader.text() for _ in range(reader.count(1)))
    )
