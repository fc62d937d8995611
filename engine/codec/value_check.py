"""Whether a value is what its type says, to the last element: for sources that are not trusted.

The walker only measures a value; RESTORE makes the target look at its frame, and at its inside only
where `sanitize-dump-payload` says so. This is the same examination before anything is sent: rdb.c,
rdbLoadObject with deep integrity validation, and the layouts of Redis 1.3 to 8.6 and Valkey to 9.1.

Left to the target: duplicate fields and members, since finding them needs a second copy of the value,
and empty collections, which servers pass over instead of refusing them.
"""

from __future__ import annotations

import re

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.lzf import lzf_expand, lzf_measure
    from engine.codec.packed import (
        IntsetReader,
        ListpackReader,
        PackedReader,
        ZiplistReader,
        ZipmapReader,
    )

# As a module: it is written in terms of this one's class, so either may be the first to be imported.
import engine.codec.stream_check as stream_check  # noqa: PLR0402
from engine.errors import CorruptRdb

# What the last element of each group in a container must be.
ANYTHING = 0
SCORE = 1
EXPIRY = 2

LZF = 3  # string encodings 0, 1 and 2 are integers of 1, 2 and 4 bytes
PLAIN = -1
LATEST_EXPIRY_MS = (1 << 48) - 1  # ebuckets.h, EB_EXPIRE_TIME_MAX
# A score as servers print it: `-1.5e-07`, `12`, `inf`; never `nan`.
SCORE_TEXT = re.compile(rb"[+-]?(?:inf|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)")
STREAMS = {15: 1, 19: 2, 21: 3, 26: 4, 27: 5}  # generation of the layout by type


@cython.cclass
class ValueChecker:
    """One value. `at` is the next byte to look at."""

    def __init__(self, value: bytes, is_valkey: bool) -> None:
        self.value = value
        self.is_valkey = is_valkey
        self.at = 0
        self.end = len(value)
        self.encoding = PLAIN
        self.text_start = self.text_end = 0
        self.text_length = 0
        self.listpack = ListpackReader()
        self.ziplist = ZiplistReader()

    def check(self, value_type: cython.int) -> cython.int:
        if value_type <= 5:
            self.check_collection(value_type)
        elif value_type == 7:
            self.length()
            self.annotated()
        elif value_type in STREAMS and (value_type <= 21 or not self.is_valkey):
            stream_check.check_stream(self, STREAMS[value_type])
        elif value_type == 64:
            self.cron()
        elif value_type in (22, 24):
            self.hash_with_expiry(value_type)
        else:
            self.check_container(value_type)
        if self.at != self.end:
            raise self.corrupt(f"{self.end - self.at} bytes behind the value", self.at)
        return 0

    def check_collection(self, value_type: cython.int) -> cython.int:
        """Strings, and collections of strings."""
        if value_type == 0:
            return self.skip_string()
        items: cython.ulonglong = self.count(1 if value_type <= 2 else 2)
        while items > 0:
            items -= 1
            self.skip_string()
            if value_type == 3:
                self.text_score()
            elif value_type == 4:
                self.skip_string()
            elif value_type == 5:
                self.binary_score()
        return 0

    def check_container(self, value_type: cython.int) -> cython.int:
        """Collections in packed form: one, or a list of them."""
        nodes: cython.ulonglong
        if value_type == 9:
            return self.skip_packed(ZipmapReader(), 2, ANYTHING)
        if value_type == 10:
            return self.skip_packed(self.ziplist, 1, ANYTHING)
        if value_type == 11:
            return self.skip_packed(IntsetReader(), 1, ANYTHING)
        if value_type == 12:
            return self.skip_packed(self.ziplist, 2, SCORE)
        if value_type == 13:
            return self.skip_packed(self.ziplist, 2, ANYTHING)
        if value_type == 16:
            return self.skip_packed(self.listpack, 2, ANYTHING)
        if value_type == 17:
            return self.skip_packed(self.listpack, 2, SCORE)
        if value_type == 20:
            return self.skip_packed(self.listpack, 1, ANYTHING)
        if value_type in (14, 18):
            nodes = self.count(1 if value_type == 14 else 2)
            while nodes > 0:
                nodes -= 1
                if value_type == 14:
                    self.skip_packed(self.ziplist, 1, ANYTHING)
                else:
                    self.quicklist_node()
            return 0
        if value_type in (23, 25) and not self.is_valkey:
            if value_type == 25:
                self.check_expiry(cython.cast(cython.ulonglong, max(self.milliseconds(), 0)))
            return self.skip_packed(self.listpack, 3, EXPIRY)
        raise self.corrupt(f"value type {value_type} is not known", 0)

    # --- pieces of every value --------------------------------------------------------------------

    def corrupt(self, message: str, at: cython.Py_ssize_t) -> CorruptRdb:
        return CorruptRdb(message, offset=at)

    def skip(self, count: cython.ulonglong) -> cython.int:
        if count > cython.cast(cython.ulonglong, self.end - self.at):
            raise self.corrupt(f"{count} bytes are said, {self.end - self.at} are left", self.at)
        self.at += cython.cast(cython.Py_ssize_t, count)
        return 0

    def length(self) -> cython.ulonglong:
        """A LEN (rdb.c, rdbLoadLenByRef)."""
        start: cython.Py_ssize_t = self.at
        self.skip(1)
        first: cython.int = self.value[start]
        result: cython.ulonglong = first & 0x3F
        more: cython.Py_ssize_t
        i: cython.Py_ssize_t
        if first < 0x40:
            return result
        if first < 0x80:
            more = 1
        elif first == 0x80:
            more = 4
        elif first == 0x81:
            more = 8
            result = 0
        else:
            raise self.corrupt(f"length byte {first:#x} where a number must be", start)
        self.skip(more)
        for i in range(start + 1, start + 1 + more):
            result = result << 8 | self.value[i]
        return result

    def count(self, least_bytes: cython.Py_ssize_t) -> cython.ulonglong:
        """A LEN of items that take `least_bytes` or more: no loop is begun that the bytes cannot fill."""
        start: cython.Py_ssize_t = self.at
        items: cython.ulonglong = self.length()
        if items > cython.cast(cython.ulonglong, (self.end - self.at) // least_bytes):
            raise self.corrupt(f"{items} items are said, {self.end - self.at} bytes left", start)
        return items

    def find_string(self) -> cython.int:
        """A STR: set encoding, text_start, text_end (as stored) and text_length (decompressed)."""
        start: cython.Py_ssize_t = self.at
        if start >= self.end:
            raise self.corrupt("value ends where a string must be", start)
        first: cython.int = self.value[start]
        stored: cython.ulonglong
        if first < 0xC0:
            self.encoding = PLAIN
            stored = self.text_length = self.length()
        elif first <= 0xC2:
            self.at += 1
            self.encoding = first - 0xC0
            stored = self.text_length = cython.cast(cython.ulonglong, 1) << self.encoding
        elif first == 0xC3:
            self.at += 1
            self.encoding = LZF
            stored = self.length()
            self.text_length = self.length()
        else:
            raise self.corrupt(f"string encoding {first - 0xC0} is not known", start)
        self.text_start = self.at
        self.skip(stored)
        self.text_end = self.at
        return 0

    def skip_string(self) -> cython.int:
        self.find_string()
        if self.encoding == LZF:
            lzf_measure(self.value, self.text_start, self.text_end, self.text_length)
        return 0

    def skip_strings(self, count: cython.ulonglong) -> cython.int:
        while count > 0:
            count -= 1
            self.skip_string()
        return 0

    def string(self) -> bytes:
        """A STR as the servers see it, except that an integer stays in its stored form."""
        self.find_string()
        if self.encoding == LZF:
            return lzf_expand(self.value, self.text_start, self.text_end, self.text_length)
        return self.value[self.text_start : self.text_end]

    def raw(self, count: cython.Py_ssize_t) -> bytes:
        start: cython.Py_ssize_t = self.at
        self.skip(count)
        return self.value[start : self.at]

    def milliseconds(self) -> cython.longlong:
        start: cython.Py_ssize_t = self.at
        self.skip(8)
        result: cython.longlong = self.value[start + 7]
        i: cython.Py_ssize_t
        if result >= 128:
            result -= 256
        for i in range(start + 6, start - 1, -1):
            result = result * 256 + self.value[i]
        return result

    # --- containers -------------------------------------------------------------------------------

    def open_packed(self, reader: PackedReader) -> cython.int:
        """Open `reader` on the container in the STR that comes next."""
        start: cython.Py_ssize_t = self.at
        self.find_string()
        if self.encoding == PLAIN:
            reader.origin = -1
            reader.open(self.value, self.text_start, self.text_end)
        elif self.encoding == LZF:
            body: bytes = lzf_expand(self.value, self.text_start, self.text_end, self.text_length)
            reader.origin = start
            reader.open(body, 0, len(body))
        else:
            raise self.corrupt("number where a packed collection must be", start)
        return 0

    def skip_packed(self, reader: PackedReader, group: cython.int, kind: cython.int) -> cython.int:
        """A whole container whose elements come in groups, the last of each being of `kind`."""
        start: cython.Py_ssize_t = self.at
        self.open_packed(reader)
        place: cython.int = 0
        while reader.advance():
            place += 1
            if place == group:
                place = 0
                if kind != ANYTHING:
                    self.check_number(reader, kind)
        if place != 0:
            raise self.corrupt(f"elements do not come in groups of {group}", start)
        return 0

    def check_number(self, reader: PackedReader, kind: cython.int) -> cython.int:
        if kind == SCORE:
            if not (
                reader.is_number
                or SCORE_TEXT.fullmatch(reader.body, reader.text_start, reader.text_end)
            ):
                raise reader.corrupt("score is not a number", reader.text_start)
        elif not reader.is_number or reader.number < 0:
            raise reader.corrupt("field TTL is not a time", reader.at)
        else:
            self.check_expiry(cython.cast(cython.ulonglong, reader.number))
        return 0

    def quicklist_node(self) -> cython.int:
        start: cython.Py_ssize_t = self.at
        container: cython.ulonglong = self.length()
        if container == 1:
            return self.skip_string()
        if container == 2:
            return self.skip_packed(self.listpack, 1, ANYTHING)
        raise self.corrupt(f"list node container {container} is not known", start)

    # --- numbers ----------------------------------------------------------------------------------

    def check_expiry(self, moment: cython.ulonglong) -> cython.int:
        # One more than the latest is the servers' "none" in a hash's earliest time.
        if moment > cython.cast(cython.ulonglong, LATEST_EXPIRY_MS + 1):
            raise self.corrupt(f"field TTL {moment} is beyond what servers hold", self.at)
        return 0

    def text_score(self) -> cython.int:
        start: cython.Py_ssize_t = self.at
        self.skip(1)
        size: cython.int = self.value[start]
        if size == 253:
            raise self.corrupt("score is not a number", start)
        if size < 253:
            self.skip(size)
            if not SCORE_TEXT.fullmatch(self.value, start + 1, self.at):
                raise self.corrupt("score is not a number", start)
        return 0

    def binary_score(self) -> cython.int:
        start: cython.Py_ssize_t = self.at
        self.skip(8)
        high: cython.int = self.value[start + 7] & 0x7F
        low: cython.int = self.value[start + 6]
        rest: cython.int = low & 0x0F
        i: cython.Py_ssize_t
        if high == 0x7F and low >= 0xF0:
            for i in range(start, start + 6):
                rest |= self.value[i]
            if rest:
                raise self.corrupt("score is not a number", start)
        return 0

    # --- hashes with field TTLs, module values, KeyDB's cron ----------------------------------------

    def hash_with_expiry(self, value_type: cython.int) -> cython.int:
        fields: cython.ulonglong
        moment: cython.ulonglong
        earliest: cython.ulonglong = 0
        start: cython.Py_ssize_t
        if self.is_valkey and value_type == 22:
            fields = self.count(10)
            while fields > 0:
                fields -= 1
                self.skip_strings(2)
                start = self.at
                if self.milliseconds() < -1:
                    raise self.corrupt("field TTL is not a time", start)
            return 0
        if self.is_valkey:
            raise self.corrupt(f"value type {value_type} is not known to Valkey", 0)
        if value_type == 24:
            start = self.at
            first: cython.longlong = self.milliseconds()
            if first < 0:
                raise self.corrupt("earliest field TTL is not a time", start)
            earliest = first
            self.check_expiry(earliest)
        fields = self.count(3)
        while fields > 0:
            fields -= 1
            moment = self.length()
            self.check_expiry(moment)
            if value_type == 24 and moment > 0:
                self.check_expiry(earliest + moment - 1)
            self.skip_strings(2)
        return 0

    def annotated(self) -> cython.int:
        """What a module wrote: each piece with its kind before it, until kind 0."""
        start: cython.Py_ssize_t
        kind: cython.ulonglong
        while True:
            start = self.at
            kind = self.length()
            if kind == 0:
                return 0
            if kind <= 2:
                self.length()
            elif kind == 3:
                self.skip(4)
            elif kind == 4:
                self.skip(8)
            elif kind == 5:
                self.skip_string()
            else:
                raise self.corrupt(f"module annotation {kind} is not known", start)

    def cron(self) -> cython.int:
        self.skip_string()
        self.skip(16)
        self.skip_strings(self.count(1))
        return self.skip_strings(self.count(1))


def check_value(value_type: cython.int, is_valkey: cython.bint, value: bytes) -> cython.int:
    """Make sure that `value` is a sound value of `value_type`, whole and with nothing behind it.

    value: as in an RDB or in a DUMP payload, without the type byte. is_valkey: the RDB has the VALKEY
    magic, or the payload a version of 80 or more: some types mean other things there.

    Raises:
        CorruptRdb: it is not; the offset counts in `value`.
    """
    ValueChecker(value, is_valkey).check(value_type)
    return 0
