"""Values in a form that an older or a foreign target loads: what it lacks is written as what it has.

    listpacks (16, 17, 18, 20)      plain hash, sorted set, list, set (4, 5, 1, 2), which every server loads
    hashes with field TTLs          the target family's own (Redis 24, Valkey 22), else a plain hash, if that is allowed
    streams (19, 21, 26)            an older stream (21, 19, 15); what falls away is what that server cannot hold

It stays one RESTORE, so the key appears whole, with its expiry, and the conflict policy holds for it.
Layouts: rdb.c, rdbSaveObject.
"""

from __future__ import annotations

from struct import pack

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.value_items import ValueItems

from engine.codec.bridge_stream import stream_as
from engine.codec.value_check import STREAMS

BATCH_ITEMS = 1024
BATCH_BYTES = 1 << 20
FIELD_TTLS = "field TTLs"
# Kinds by name, so that a new type of a kind is bridged like its elders.
PLAIN_TYPE = {"list": 1, "set": 2, "zset": 5, "hash": 4}
REDIS_HASH = 24
VALKEY_HASH = 22
LATEST_MS = (1 << 48) - 1


@cython.cclass
class ValueBridge:
    """What one target can be given.

    redis_types, valkey_types: as SnapshotPlan has them. drops_field_ttls: a target without field TTLs gets the hash
    all the same. reason: why the last value could not be bridged. fell_away: what was left out, by kind, so far.
    """

    def __init__(
        self, redis_types: frozenset, valkey_types: frozenset, drops_field_ttls: bool
    ) -> None:
        self.redis_types = redis_types
        self.valkey_types = valkey_types
        self.drops_field_ttls = drops_field_ttls
        self.out = OutBuffer(1 << 16)
        self.reason = ""
        self.fell_away = {}

    def knows(self, value_type: cython.int, is_valkey: cython.bint) -> cython.bint:
        """Whether the target loads such values as they are."""
        return value_type in (self.valkey_types if is_valkey else self.redis_types)

    def bridged(self, value_type: cython.int, is_valkey: cython.bint, value: bytes):
        """(type, value) in another form that the target loads; None if there is none, and `reason` says why.

        Raises:
            CorruptRdb: the value is not sound; the offset counts in it.
        """
        if value_type in STREAMS:
            return self.older_stream(value_type, value)
        if value_type in (7, 64):
            self.reason = "the target does not know its type"
            return None
        items = ValueItems(value_type, is_valkey, value)
        if items.kind == "hash":
            return self.hash_as(items)
        if items.kind not in PLAIN_TYPE:
            self.reason = "no older form is known"
            return None
        if not self.has_plain(items.kind):
            return None
        return (PLAIN_TYPE[items.kind], self.collection(items))

    def has_plain(self, kind: str) -> cython.bint:
        """Whether the target has the oldest form of this kind."""
        if PLAIN_TYPE[kind] in self.redis_types:
            return True
        self.reason = f"the target has no {kind}"
        return False

    def note_lost(self, what: str) -> cython.int:
        self.fell_away[what] = self.fell_away.get(what, 0) + 1
        return 0

    def collection(self, items: ValueItems) -> bytes:
        """A list, set or sorted set in its plain form: LEN n, n x STR [double]."""
        count: cython.ulonglong = 0
        is_zset: cython.bint = items.kind == "zset"
        while True:
            batch: list = items.next_batch(BATCH_ITEMS, BATCH_BYTES)
            if not batch:
                break
            count += len(batch)
            for item in batch:
                if is_zset:
                    self.put_text(item[0])
                    self.put_double(item[1])
                else:
                    self.put_text(item)
        return self.counted(count)

    def hash_as(self, items: ValueItems):
        """A hash in the target's own form of field TTLs, or in the plain one."""
        found: list = []
        earliest: cython.longlong = -1
        while True:
            batch: list = items.next_batch(BATCH_ITEMS, BATCH_BYTES)
            if not batch:
                break
            found += batch
        moments = [item[2] for item in found if item[2] >= 0]
        if not moments and not self.has_plain("hash"):
            return None
        if not moments:
            return (4, self.plain_hash(found))
        earliest = min(moments)
        if REDIS_HASH in self.redis_types and max(moments) <= LATEST_MS:
            return (REDIS_HASH, self.redis_hash(found, earliest))
        if VALKEY_HASH in self.valkey_types:
            return (VALKEY_HASH, self.valkey_hash(found))
        if not self.drops_field_ttls:
            self.reason = f"{len(moments)} of its fields expire, and the target has no field TTLs"
            return None
        self.note_lost(FIELD_TTLS)
        return (4, self.plain_hash(found))

    def plain_hash(self, found: list) -> bytes:
        for item in found:
            self.put_text(item[0])
            self.put_text(item[1])
        return self.counted(len(found))

    def redis_hash(self, found: list, earliest: cython.longlong) -> bytes:
        """MS earliest, LEN n, n x (LEN moment - earliest + 1 or 0, STR, STR)."""
        moment: cython.longlong
        for item in found:
            moment = item[2]
            self.put_length(moment - earliest + 1 if moment >= 0 else 0)
            self.put_text(item[0])
            self.put_text(item[1])
        return earliest.to_bytes(8, "little") + self.counted(len(found))

    def valkey_hash(self, found: list) -> bytes:
        """LEN n, n x (STR, STR, MS or -1)."""
        for item in found:
            self.put_text(item[0])
            self.put_text(item[1])
            self.out.put_bytes(item[2].to_bytes(8, "little", signed=True))
        return self.counted(len(found))

    def older_stream(self, value_type: cython.int, value: bytes):
        """The newest stream type that the target has and that is older."""
        for older in (21, 19, 15):
            if older < value_type and older in self.redis_types:
                written, lost = stream_as(value_type, older, value)
                if written is None:
                    self.reason = lost
                    return None
                if lost:
                    self.note_lost(lost)
                return (older, written)
        self.reason = "the target has no streams"
        return None

    # --- bytes ------------------------------------------------------------------------------------------

    def counted(self, count: cython.ulonglong) -> bytes:
        """LEN `count` and what has been put, which is taken."""
        body: bytes = self.out.take()
        self.put_length(count)
        return self.out.take() + body

    def put_length(self, number: cython.ulonglong) -> cython.int:
        """A LEN (rdb.c, rdbSaveLen)."""
        out = self.out
        shift: cython.int
        if number < 64:
            out.put_byte(number)
        elif number < 16384:
            out.put_byte(0x40 | (number >> 8))
            out.put_byte(number & 0xFF)
        elif number < 0x100000000:
            out.put_byte(0x80)
            for shift in range(24, -1, -8):
                out.put_byte((number >> shift) & 0xFF)
        else:
            out.put_byte(0x81)
            for shift in range(56, -1, -8):
                out.put_byte((number >> shift) & 0xFF)
        return 0

    def put_text(self, text: bytes) -> cython.int:
        self.put_length(len(text))
        self.out.put_bytes(text)
        return 0

    def put_double(self, score: cython.double) -> cython.int:
        self.out.put_bytes(pack("<d", score))
        return 0
