"""The entries of a stream in batches, then its groups: the decoding side of stream_check, with its checks.

The layout stands there. Deleted entries are passed over, as the servers do.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.value_items import ValueItems

from engine.codec.logical import (
    UNKNOWN_ENTRIES_READ,
    Consumer,
    Group,
    Pending,
    Producers,
    StreamDetails,
)
from engine.codec.value_check import STREAMS

ID_BYTES = 16
DELETED = 1
SAME_FIELDS = 2
MASK = (1 << 64) - 1


@cython.cclass
class StreamItems(ValueItems):
    """A stream. `next_batch` until it gives an empty list, then `details`.

    gives_deleted: entries marked as deleted come as well, without fields: (ms, seq, None).
    """

    def __init__(self, value_type: int, is_valkey: bool, value: bytes) -> None:
        self.gives_deleted = False
        ValueItems.__init__(self, value_type, is_valkey, value)

    def begin(self):
        if self.value_type not in STREAMS or (self.is_valkey and self.value_type > 21):
            raise self.corrupt(f"value type {self.value_type} is not a stream", 0)
        self.generation = STREAMS[self.value_type]
        self.nodes = self.count(ID_BYTES + 2)
        self.seen = set()
        self.entries = self.deleted = 0
        self.master_fields = []

    def finish(self) -> cython.int:
        """The entries are read; `details` reads the rest."""
        self.is_finished = True
        return 0

    def next_item(self):
        while True:
            if self.entries > 0:
                self.entries -= 1
            elif self.deleted > 0:
                self.deleted -= 1
            elif self.is_open:
                if self.listpack.advance():
                    raise self.corrupt("stream: node holds more entries than it says", self.node)
                self.is_open = False
                continue
            elif self.nodes > 0:
                self.nodes -= 1
                self.open_node()
                continue
            else:
                return None
            item = self.entry()
            if item is not None:
                return item

    def open_node(self) -> cython.int:
        at: cython.Py_ssize_t = self.at
        master_id: bytes = self.text()
        if len(master_id) != ID_BYTES:
            raise self.corrupt(f"stream: node id of {len(master_id)} bytes", at)
        self.note_once(self.seen, master_id, at, "node")
        self.ms = int.from_bytes(master_id[:8], "big")
        self.seq = int.from_bytes(master_id[8:], "big")
        self.node = self.at
        self.open_packed(self.listpack)
        self.entries = self.piece_number("entry count")
        self.deleted = self.piece_number("deleted count")
        fields: cython.longlong = self.piece_number("field count")
        self.master_fields = self.pieces(fields)
        if self.piece_number("end of the master entry") != 0:
            raise self.corrupt("stream: master entry does not end with 0", self.node)
        if self.entries < 0 or self.deleted < 0:
            raise self.corrupt("stream: node with a negative count", self.node)
        self.is_open = True
        return 0

    def entry(self):
        """The next entry, None when it is marked as deleted."""
        flags: cython.longlong = self.piece_number("flags")
        ms: cython.longlong = self.piece_number("milliseconds")
        seq: cython.longlong = self.piece_number("sequence number")
        count: cython.longlong
        expected: cython.longlong
        if flags & SAME_FIELDS:
            values = self.pieces(len(self.master_fields))
            pairs = [None] * (2 * len(values))
            pairs[::2] = self.master_fields
            pairs[1::2] = values
            expected = 3 + len(values)
        else:
            count = self.piece_number("field count")
            if count > cython.cast(cython.longlong, self.end) * 90:
                raise self.corrupt(f"stream: {count} fields", self.node)
            pairs = self.pieces(2 * count)
            expected = 4 + 2 * count
        if self.piece_number("piece count") != expected:
            raise self.corrupt("stream: entry with a wrong piece count", self.node)
        if flags & DELETED:
            if not self.gives_deleted:
                return None
            pairs = None
        self.taken = 32
        if pairs is None:
            return ((self.ms + ms) & MASK, (self.seq + seq) & MASK, None)
        for piece in pairs:
            self.taken += len(piece)
        return ((self.ms + ms) & MASK, (self.seq + seq) & MASK, tuple(pairs))

    def piece_number(self, name: str) -> cython.longlong:
        if not self.listpack.advance():
            raise self.corrupt(f"stream: node ends where {name} must be", self.node)
        if not self.listpack.is_number:
            raise self.corrupt(f"stream: {name} is not a number", self.node)
        return self.listpack.number

    def pieces(self, count: cython.longlong) -> list:
        """The next `count` elements as bytes: taken one after the other, so that no number is believed."""
        found: list = []
        if count < 0:
            raise self.corrupt(f"stream: {count} fields", self.node)
        while count > 0:
            count -= 1
            if not self.listpack.advance():
                raise self.corrupt("stream: node ends inside an entry", self.node)
            if self.listpack.is_number:
                found.append(b"%d" % self.listpack.number)
            else:
                found.append(self.listpack.body[self.listpack.text_start : self.listpack.text_end])
        return found

    # --- behind the entries ---------------------------------------------------------------------------

    def details(self):
        """All but the entries, as StreamDetails. To be called when `next_batch` has given everything.

        Raises:
            CorruptRdb: it is not sound; the offset counts in the value.
        """
        if not self.is_finished:
            raise self.corrupt("stream: the details come behind the entries", self.at)
        length = self.length()
        last_id = self.id_as_lengths()
        first_id = max_deleted_id = entries_added = producers = None
        if self.generation >= 2:
            first_id = self.id_as_lengths()
            max_deleted_id = self.id_as_lengths()
            entries_added = self.length()
        count: cython.ulonglong = self.count(5)
        groups = []
        names: set = set()
        while count > 0:
            count -= 1
            groups.append(self.one_group(names))
        if self.generation >= 4:
            producers = self.idempotent_producers()
        if self.at != self.end:
            raise self.corrupt(f"{self.end - self.at} bytes behind the value", self.at)
        return StreamDetails(
            length, last_id, first_id, max_deleted_id, entries_added, tuple(groups), producers
        )

    def note_once(self, seen: set, name: bytes, at: cython.Py_ssize_t, what: str) -> cython.int:
        if name in seen:
            raise self.corrupt(f"stream: the same {what} twice", at)
        seen.add(name)
        return 0

    def id_as_lengths(self):
        ms = self.length()
        return (ms, self.length())

    def id_as_bytes(self):
        place: bytes = self.raw(ID_BYTES)
        return (int.from_bytes(place[:8], "big"), int.from_bytes(place[8:], "big"))

    def one_group(self, names: set):
        at: cython.Py_ssize_t = self.at
        name: bytes = self.text()
        self.note_once(names, name, at, "group")
        last_id = self.id_as_lengths()
        entries_read = None
        if self.generation >= 2:
            entries_read = self.length()
            if entries_read == UNKNOWN_ENTRIES_READ:
                entries_read = None
        waiting: dict = {}
        owners: dict = {}
        count: cython.ulonglong = self.count(ID_BYTES + 9)
        while count > 0:
            count -= 1
            at = self.at
            entry = self.id_as_bytes()
            if entry in waiting:
                raise self.corrupt("stream: the same pending id twice", at)
            delivered_at_ms = self.milliseconds()
            waiting[entry] = (delivered_at_ms, self.length())
        consumers = []
        seen: set = set()
        count = self.count(10)
        while count > 0:
            count -= 1
            consumers.append(self.one_consumer(seen, waiting, owners))
        if self.generation >= 5:
            count = self.count(ID_BYTES)
            while count > 0:
                count -= 1
                owners.setdefault(self.id_as_bytes(), None)
        for entry in waiting:
            if entry not in owners:
                raise self.corrupt("stream: a pending id belongs to no consumer", at)
        pending = tuple(
            [Pending(entry, owners[entry], *waiting[entry]) for entry in sorted(waiting)]
        )
        return Group(name, last_id, entries_read, pending, tuple(consumers))

    def one_consumer(self, seen: set, waiting: dict, owners: dict):
        at: cython.Py_ssize_t = self.at
        name: bytes = self.text()
        self.note_once(seen, name, at, "consumer")
        seen_at_ms = self.milliseconds()
        active_at_ms = self.milliseconds() if self.generation >= 3 else None
        ids = []
        count: cython.ulonglong = self.count(ID_BYTES)
        while count > 0:
            count -= 1
            at = self.at
            entry = self.id_as_bytes()
            if entry not in waiting or entry in owners:
                raise self.corrupt(
                    "stream: a consumer's pending id is not its group's, or another's too", at
                )
            owners[entry] = name
            ids.append(entry)
        return Consumer(name, seen_at_ms, active_at_ms, tuple(ids))

    def idempotent_producers(self):
        duration_seconds = self.length()
        max_entries = self.length()
        found = []
        count: cython.ulonglong = self.count(2)
        while count > 0:
            count -= 1
            name = self.text()
            ids = []
            left: cython.ulonglong = self.count(3)
            while left > 0:
                left -= 1
                message: bytes = self.text()
                ids.append((message, self.id_as_lengths()))
            found.append((name, tuple(ids)))
        added = self.length()
        return Producers(duration_seconds, max_entries, tuple(found), added, self.length())
