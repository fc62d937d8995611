"""What a value is, whatever its encoding: the decoder's results as plain objects.

The items of a value, by kind:

    string          one bytes
    list, set       bytes each
    zset            (member, score)
    hash            (field, value, expire_at_ms), -1: the field stays
    stream          (ms, seq, (field, value, field, value, …)), deleted entries left out
    module, cron    none: all of it is in the details
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.errors import CorruptRdb

NEVER = -1
UNKNOWN_ENTRIES_READ = (1 << 64) - 1  # a group's entries_read when the server has lost count
MODULE_NAME_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

StreamId = tuple[int, int]  # milliseconds, sequence number
HashItem = tuple[bytes, bytes, int]
ZsetItem = tuple[bytes, float]
StreamItem = tuple[int, int, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry that was handed out and not acknowledged. consumer: None in a stream 5's released zone."""

    id: StreamId
    consumer: bytes | None
    delivered_at_ms: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Consumer:
    """active_at_ms: -1 when it has never got an entry, None where the type does not hold it."""

    name: bytes
    seen_at_ms: int
    active_at_ms: int | None
    pending: tuple[StreamId, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """entries_read: None where the type does not hold it or the server does not know. pending: by id."""

    name: bytes
    last_id: StreamId
    entries_read: int | None
    pending: tuple[Pending, ...]
    consumers: tuple[Consumer, ...]


@dataclass(frozen=True, slots=True)
class Producers:
    """Idempotent producers of Redis 8.6. producers: (producer id, ((message id, entry id), …))."""

    duration_seconds: int
    max_entries: int
    producers: tuple[tuple[bytes, tuple[tuple[bytes, StreamId], ...]], ...]
    ids_added: int
    ids_duplicate: int


@dataclass(frozen=True, slots=True)
class StreamDetails:
    """All of a stream but its entries. first_id, max_deleted_id, entries_added: None in the oldest type (15)."""

    length: int
    last_id: StreamId
    first_id: StreamId | None
    max_deleted_id: StreamId | None
    entries_added: int | None
    groups: tuple[Group, ...]
    producers: Producers | None


@dataclass(frozen=True, slots=True)
class ModuleDetails:
    """raw: from the module id to the end mark, as in the RDB."""

    module_id: int
    raw: bytes

    @property
    def name(self) -> str:
        """The module type's nine letters (module.c, moduleTypeNameByID)."""
        return module_name(self.module_id)

    @property
    def encoding_version(self) -> int:
        """The module type's own version, the lowest ten bits."""
        return self.module_id & 1023


@dataclass(frozen=True, slots=True)
class CronDetails:
    """KeyDB's KEYDB.CRON."""

    script: bytes
    start_ms: int
    interval_ms: int
    keys: tuple[bytes, ...]
    arguments: tuple[bytes, ...]


Details = StreamDetails | ModuleDetails | CronDetails | None


@dataclass(frozen=True, slots=True)
class LogicalValue:
    """A whole value; for what `items` holds see the module's head."""

    kind: str
    items: list[object]
    details: Details = None


@dataclass(slots=True)
class KeyRecord:
    """A key of an RDB with its value as it lies there.

    value_offset: of the value in the RDB. expire_at_ms, idle_seconds, frequency: -1 without one. key_metadata:
    Redis 8.6's KEY_META record with its opcode. member_expiries: KeyDB's (member, moment in ms).
    """

    db: int
    key: bytes
    value_type: int
    is_valkey: bool
    value: bytes
    value_offset: int
    expire_at_ms: int = NEVER
    idle_seconds: int = -1
    frequency: int = -1
    key_metadata: bytes | None = None
    member_expiries: list[tuple[bytes, int]] = field(default_factory=list)

    def located(self, error: CorruptRdb) -> CorruptRdb:
        """`error`, whose offset counts in the value, with the key's name and the place in the RDB."""
        offset = self.value_offset + max(error.offset, 0)
        return CorruptRdb(
            f"corrupt RDB at byte {offset}: key {self.key!r} of database {self.db}: {error.message}",
            offset=offset,
            detail=error.detail,
        )


@dataclass(frozen=True, slots=True)
class OtherRecord:
    """What lies between the keys. opcode: rdb_grammar's. fields: its numbers and strings, in order."""

    opcode: int
    fields: tuple[object, ...]
    raw: bytes


def module_name(module_id: int) -> str:
    """The nine letters of a module id (module.c, moduleTypeNameByID)."""
    return "".join(MODULE_NAME_LETTERS[module_id >> shift & 63] for shift in range(58, 9, -6))
