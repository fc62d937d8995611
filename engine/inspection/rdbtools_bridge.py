"""Drives the callback classes of rdbtools with our parser, so that they work on dumps that rdbtools cannot read.

rdbtools 0.1.15 stops at RDB version 9. What its model has no place for is left out: TTLs of hash fields, the state of
stream groups in its `protocol`, module values beyond their size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from engine.codec.decode import decode_value, open_items
from engine.codec.logical import KeyRecord, ModuleDetails, OtherRecord, StreamDetails
from engine.codec.rdb_grammar import AUX, RESIZEDB, SELECTDB
from engine.codec.rdb_records import RecordReader
from engine.codec.value_items import KINDS, ValueItems
from engine.errors import ConfigError, CorruptRdb, install_hint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FORMATS = ("json", "memory", "protocol", "diff")
VALUE_LIMIT_BYTES = 1 << 40
RECORDS = 256
BATCH_ITEMS, BATCH_BYTES = 4096, 1 << 20
EPOCH = datetime(1970, 1, 1)
# Its words for the encodings; sizeof_value goes with those that are one piece of memory.
PACKED = {
    9: "zipmap", 10: "ziplist", 11: "intset", 12: "ziplist", 13: "ziplist", 16: "listpack",
    17: "listpack", 20: "listpack", 23: "listpack", 25: "listpack",
}  # fmt: skip
PLAIN = {"hash": "hashtable", "set": "hashtable", "zset": "skiplist", "list": "linkedlist"}
INTEGER_SCORES = (3, 12, 17)  # written as text, where 5 is not 5.0
INT32_BYTES = 4
LONGEST_INTEGER = 20
INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def make_callback(name: str, out: BinaryIO) -> Any:
    """The callback class of one of FORMATS, writing to `out`.

    Raises:
        ConfigError: rdbtools is not installed.
    """
    try:
        from rdbtools import callbacks  # noqa: PLC0415 - an optional dependency
        from rdbtools.memprofiler import MemoryCallback, PrintAllKeys  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"--format {name} needs rdbtools, which is not installed ({error})",
            hint=install_hint("inspect"),
        ) from error
    if name == "memory":
        return MemoryCallback(PrintAllKeys(out, None, None), 64)
    made = {
        "json": callbacks.JSONCallback,
        "protocol": callbacks.ProtocolCallback,
        "diff": callbacks.DiffCallback,
    }
    return made[name](out)


async def drive(chunks: AsyncIterator[bytes], callback: Any) -> None:
    """Call `callback` for everything in the dump, in its order.

    Raises:
        CorruptRdb: with the byte offset and the key.
    """
    reader = RecordReader(VALUE_LIMIT_BYTES)
    driver = Driver(callback)
    callback.start_rdb()
    async for chunk in chunks:
        reader.feed(chunk)
        while batch := reader.next_records(RECORDS):
            for record in batch:
                driver.take(record)
        if reader.is_finished:
            break
    reader.finish()
    driver.end()


class Driver:
    """Turns records into calls."""

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self._db: int | None = None

    def take(self, record: KeyRecord | OtherRecord) -> None:
        """One record."""
        if isinstance(record, KeyRecord):
            if self._db is None:
                self._start(record.db)
            try:
                self._key(record)
            except CorruptRdb as error:
                raise record.located(error) from error
        elif record.opcode == SELECTDB:
            self._start(int(str(record.fields[0])))
        elif record.opcode == RESIZEDB:
            self._callback.db_size(*record.fields)
        elif record.opcode == AUX:
            name, value = record.fields
            assert isinstance(name, bytes)
            assert isinstance(value, bytes)
            self._callback.aux_field(
                name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
            )

    def end(self) -> None:
        """The dump is over."""
        if self._db is not None:
            self._callback.end_database(self._db)
        self._callback.end_rdb()

    def _start(self, db: int) -> None:
        if self._db is not None:
            self._callback.end_database(self._db)
        self._db = db
        self._callback.start_database(db)

    def _key(self, record: KeyRecord) -> None:
        kind = KINDS.get(record.value_type, "")
        info: dict[str, Any] = {
            "idle": record.idle_seconds if record.idle_seconds >= 0 else None,
            "freq": record.frequency if record.frequency >= 0 else None,
            "encoding": PACKED.get(record.value_type) or PLAIN.get(kind, kind),
        }
        if record.value_type in PACKED:
            info["sizeof_value"] = packed_bytes(record)
        expiry = _moment(record.expire_at_ms)
        if kind in {"stream", "module", "cron"}:
            self._opaque(record, kind, expiry, info)
        elif kind == "string":
            items = open_items(record.value_type, record.is_valkey, record.value)
            value = _natural(next(_batches(items))[0], INT32_BYTES)
            self._callback.set(_natural(record.key, INT32_BYTES), value, expiry, info)
        else:
            self._collection(record, kind, expiry, info)

    def _collection(
        self, record: KeyRecord, kind: str, expiry: datetime | None, info: dict[str, Any]
    ) -> None:
        callback, key = self._callback, _natural(record.key, INT32_BYTES)
        found: list[Any] = []
        for batch in _batches(open_items(record.value_type, record.is_valkey, record.value)):
            found += batch
        if kind == "list":
            callback.start_list(key, expiry, info)
            for item in found:
                callback.rpush(key, _natural(item))
            callback.end_list(key, info)
        elif kind == "set":
            callback.start_set(key, len(found), expiry, info)
            for item in found:
                callback.sadd(key, _natural(item))
            callback.end_set(key)
        elif kind == "zset":
            callback.start_sorted_set(key, len(found), expiry, info)
            is_packed = record.value_type in INTEGER_SCORES
            for member, score in found:
                is_integer = is_packed and abs(score) < 1e17 and repr(score).endswith(".0")
                callback.zadd(
                    key,
                    int(score) if is_integer and repr(score) != "-0.0" else score,
                    _natural(member),
                )
            callback.end_sorted_set(key)
        else:
            callback.start_hash(key, len(found), expiry, info)
            for name, value, _ in found:
                callback.hset(key, _natural(name), _natural(value))
            callback.end_hash(key)

    def _opaque(
        self, record: KeyRecord, kind: str, expiry: datetime | None, info: dict[str, Any]
    ) -> None:
        callback, key = self._callback, _natural(record.key, INT32_BYTES)
        details = decode_value(record.value_type, record.is_valkey, record.value).details
        if isinstance(details, StreamDetails):
            reader = ValueItems(7, record.is_valkey, record.value)
            nodes = [(reader.text(), reader.text()) for _ in range(reader.count(18))]
            callback.start_stream(key, len(nodes), expiry, {**info, "encoding": "listpack"})
            for place, node in nodes:
                callback.stream_listpack(key, place, node)
            callback.end_stream(key, details.length, _id(details.last_id), _groups(details))
        else:
            name = details.name if isinstance(details, ModuleDetails) else kind
            callback.start_module(key, name, expiry, info)
            callback.end_module(key, len(record.value))


def packed_bytes(record: KeyRecord) -> int:
    """Size of the container in memory: what its string is when decompressed."""
    reader = ValueItems(7, record.is_valkey, record.value)
    if record.value_type == 25:
        reader.skip(8)
    return len(reader.text())


def _batches(items: ValueItems) -> Iterator[list[Any]]:
    while batch := items.next_batch(BATCH_ITEMS, BATCH_BYTES):
        yield batch


def _natural(raw: Any, most_bytes: int = 8) -> Any:
    """Rdbtools gives numbers where a server stores them as such: strings up to 4 bytes, elements up to 8."""
    if len(raw) > LONGEST_INTEGER or not INTEGER.fullmatch(raw):
        return raw
    number = int(raw)
    limit = 1 << (8 * most_bytes - 1)
    return number if -limit <= number < limit else raw


def _moment(expire_at_ms: int) -> datetime | None:
    if expire_at_ms < 0:
        return None
    try:
        return EPOCH + timedelta(milliseconds=expire_at_ms)
    except OverflowError:
        return datetime.max


def _id(place: tuple[int, int]) -> str:
    return f"{place[0]}-{place[1]}"


def _groups(details: StreamDetails) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "last_entry_id": _id(group.last_id),
            "pending": [
                {"id": it.id, "delivery_time": it.delivered_at_ms, "delivery_count": it.deliveries}
                for it in group.pending
            ],
            "consumers": [
                {
                    "name": it.name,
                    "seen_time": it.seen_at_ms,
                    "pending": [{"id": place} for place in it.pending],
                }
                for it in group.consumers
            ],
        }
        for group in details.groups
    ]
