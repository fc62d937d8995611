"""The items of a value, in batches of a bounded size, whatever it is encoded as.

Reads what value_check checks, with the same checks, and gives out what logical.py describes. One pass; what
is held is the value itself, one decompressed container and the batch.
"""

from __future__ import annotations

from struct import unpack_from

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.lzf import lzf_expand
    from engine.codec.packed import IntsetReader, ZipmapReader
    from engine.codec.value_check import ValueChecker

from engine.codec.value_check import LZF, PLAIN

KINDS = {
    0: "string", 1: "list", 2: "set", 3: "zset", 4: "hash", 5: "zset", 7: "module", 9: "hash",
    10: "list", 11: "set", 12: "zset", 13: "hash", 14: "list", 15: "stream", 16: "hash",
    17: "zset", 18: "list", 19: "stream", 20: "set", 21: "stream", 22: "hash", 23: "hash",
    24: "hash", 25: "hash", 26: "stream", 27: "stream", 64: "cron",
}  # fmt: skip
TTL_TYPES = (22, 23, 24, 25)


@cython.cclass
class ValueItems(ValueChecker):
    """A string, list, set, sorted set or hash. `next_batch` until it gives an empty list."""

    def __init__(self, value_type: int, is_valkey: bool, value: bytes) -> None:
        ValueChecker.__init__(self, value, is_valkey)
        self.value_type = value_type
        self.kind = KINDS.get(value_type, "")
        self.group = 1
        self.left = self.nodes = 0
        self.reader = self.listpack
        self.is_open = False
        self.is_finished = False
        self.earliest = 0
        self.begin()

    def next_batch(self, items: cython.Py_ssize_t, size: cython.Py_ssize_t) -> list:
        """The next items: at most `items`, and no more than one beyond `size` bytes. Empty: that was all.

        Raises:
            CorruptRdb: the value is not sound; the offset counts in it.
        """
        batch: list = []
        while len(batch) < items and size > 0 and not self.is_finished:
            item = self.next_item()
            if item is None:
                self.finish()
                break
            batch.append(item)
            size -= self.taken
        return batch

    def finish(self) -> cython.int:
        self.is_finished = True
        if self.at != self.end:
            raise self.corrupt(f"{self.end - self.at} bytes behind the value", self.at)
        return 0

    def begin(self):
        """Read what stands before the items."""
        kind: cython.int = self.value_type
        if kind == 0:
            self.left = 1
        elif kind in (1, 2):
            self.left = self.count(1)
        elif kind in (3, 4, 5):
            self.left = self.count(2)
        elif kind == 14:
            self.nodes = self.count(1)
            self.reader = self.ziplist
        elif kind == 18:
            self.nodes = self.count(2)
        elif kind == 22 and self.is_valkey:
            self.left = self.count(10)
        elif kind == 22:
            self.left = self.count(3)
        elif kind == 24 and not self.is_valkey:
            start: cython.Py_ssize_t = self.at
            first: cython.longlong = self.milliseconds()
            if first < 0:
                raise self.corrupt("earliest field TTL is not a time", start)
            self.earliest = first
            self.check_expiry(self.earliest)
            self.left = self.count(3)
        elif kind != 7 and kind != 64:  # modules and crons have no items
            self.begin_container()

    def skip_annotated(self) -> cython.int:
        """Pass over what a module wrote, to its end mark."""
        return self.annotated()

    def begin_container(self) -> cython.int:
        kind: cython.int = self.value_type
        self.nodes = 1
        if kind in (9, 12, 13, 16, 17):
            self.group = 2
        if kind == 9:
            self.reader = ZipmapReader()
        elif kind in (10, 12, 13):
            self.reader = self.ziplist
        elif kind == 11:
            self.reader = IntsetReader()
        elif kind in (16, 17, 20):
            self.reader = self.listpack
        elif kind in (23, 25) and not self.is_valkey:
            self.group = 3
            if kind == 25:
                self.check_expiry(cython.cast(cython.ulonglong, max(self.milliseconds(), 0)))
        else:
            raise self.corrupt(f"value type {kind} is not known", 0)
        return 0

    def next_item(self):
        if self.left > 0:
            self.left -= 1
            return self.plain_item()
        while True:
            if self.is_open:
                item = self.packed_item()
                if item is not None:
                    return item
                self.is_open = False
            if self.nodes == 0:
                return None
            self.nodes -= 1
            if self.value_type == 18:
                start: cython.Py_ssize_t = self.at
                container: cython.ulonglong = self.length()
                if container == 1:
                    return self.plain_text()
                if container != 2:
                    raise self.corrupt(f"list node container {container} is not known", start)
            self.container_at = self.at
            self.open_packed(self.reader)
            self.is_open = True

    # --- items of plain collections -----------------------------------------------------------------

    def plain_text(self):
        text = self.text()
        self.taken = len(text)
        return text

    def plain_item(self):
        kind: cython.int = self.value_type
        moment: cython.longlong = -1
        if kind <= 2:
            return self.plain_text()
        if kind in (22, 24) and not self.is_valkey:
            moment = self.field_expiry()
        first = self.text()
        self.taken = len(first) + 8
        if kind == 3:
            return (first, self.text_score_value())
        if kind == 5:
            return (first, self.double())
        second = self.text()
        self.taken += len(second)
        if kind == 22 and self.is_valkey:
            start: cython.Py_ssize_t = self.at
            moment = self.milliseconds()
            if moment < -1:
                raise self.corrupt("field TTL is not a time", start)
        return (first, second, moment)

    def text(self) -> bytes:
        """A STR as clients see it."""
        self.find_string()
        if self.encoding == PLAIN:
            return self.value[self.text_start : self.text_end]
        if self.encoding == LZF:
            return lzf_expand(self.value, self.text_start, self.text_end, self.text_length)
        return b"%d" % int.from_bytes(
            self.value[self.text_start : self.text_end], "little", signed=True
        )

    def text_score_value(self):
        start: cython.Py_ssize_t = self.at
        self.text_score()
        size: cython.int = self.value[start]
        if size == 254:
            return float("inf")
        if size == 255:
            return float("-inf")
        return float(self.value[start + 1 : self.at])

    def double(self):
        start: cython.Py_ssize_t = self.at
        self.binary_score()
        return unpack_from("<d", self.value, start)[0]

    def field_expiry(self) -> cython.longlong:
        """The moment before a field in types 22 and 24 of Redis."""
        moment: cython.ulonglong = self.length()
        self.check_expiry(moment)
        if moment == 0:
            return -1
        if self.value_type == 24:
            self.check_expiry(self.earliest + moment - 1)
            return self.earliest + moment - 1
        return moment

    # --- items of containers ------------------------------------------------------------------------

    def packed_item(self):
        """The next item of the open container, None at its end."""
        reader = self.reader
        if not reader.advance():
            return None
        first = self.packed_text()
        self.taken = len(first)
        if self.group == 1:
            return first
        self.packed_advance()
        if self.kind == "zset":
            self.taken += 8
            self.check_number(reader, 1)
            if reader.is_number:
                return (first, float(reader.number))
            return (first, float(reader.body[reader.text_start : reader.text_end]))
        second = self.packed_text()
        self.taken += len(second)
        if self.group == 2:
            return (first, second, -1)
        self.packed_advance()
        self.check_number(reader, 2)
        return (first, second, reader.number if reader.number > 0 else -1)

    def packed_advance(self) -> cython.int:
        if not self.reader.advance():
            raise self.corrupt(f"elements do not come in groups of {self.group}", self.container_at)
        return 0

    def packed_text(self) -> bytes:
        if self.reader.is_number:
            return b"%d" % self.reader.number
        return self.reader.body[self.reader.text_start : self.reader.text_end]
