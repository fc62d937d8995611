"""Readers of the containers that servers keep small collections in.

    ziplist   u32 bytes, u32 offset of the last entry, u16 count, entries, 0xFF         ziplist.c
    listpack  u32 bytes, u16 count, entries, 0xFF                                       listpack.c
    intset    u32 width, u32 count, integers in rising order                            intset.c
    zipmap    u8 count, (length, field, length, u8 unused, value, unused bytes)…, 0xFF  zipmap.c

All numbers are little endian but for the lengths inside ziplist and listpack entries. A count of 65535
(zipmap: 254 and above) means "count them". A reader goes forward over the elements without making
objects of them and checks everything the servers' own deep validation checks: lengths, counts, the end
byte, the back links, the order. It can be opened on another container when it is done.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.errors import CorruptRdb

COUNT_THEM = -1


@cython.cclass
class PackedReader:
    """One container. `open` it, then `advance` to each element until that returns False.

    is_number: the element is the integer `number`, else the bytes body[text_start:text_end].
    origin: what errors give as offset, when `body` came out of a compressed string; -1: errors count
    in `body`.
    """

    def __init__(self) -> None:
        self.body = b""
        self.origin = -1
        self.start = self.last = self.at = 0
        self.declared = COUNT_THEM
        self.elements = 0
        self.is_number = False
        self.number = 0
        self.text_start = self.text_end = 0

    def open(self, body: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Read the header of the container in body[start:end].

        Raises:
            CorruptRdb: not such a container.
        """
        raise NotImplementedError

    def advance(self) -> cython.bint:
        """Go to the next element. False: there is none, and the whole container was sound.

        Raises:
            CorruptRdb: the container is broken here.
        """
        raise NotImplementedError

    def element(self) -> object:
        if self.is_number:
            return self.number
        return self.body[self.text_start : self.text_end]

    def corrupt(self, message: str, at: cython.Py_ssize_t) -> CorruptRdb:
        if self.origin < 0:
            return CorruptRdb(message, offset=at)
        return CorruptRdb(
            message, offset=self.origin, detail=f"byte {at - self.start} when decompressed"
        )

    def begin(
        self,
        body: bytes,
        start: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        least: cython.Py_ssize_t,
        name: str,
    ) -> cython.int:
        if start < 0 or end > len(body) or end - start < least:
            offset = start if self.origin < 0 else self.origin
            raise CorruptRdb(f"{name} of {end - start} bytes", offset=offset)
        self.body = body
        self.start = start
        self.last = end
        self.elements = 0
        return 0

    def end_marked(self, name: str) -> cython.int:
        self.last -= 1
        if self.body[self.last] != 0xFF:
            raise self.corrupt(f"{name} without its end byte", self.last)
        return 0

    def need(self, at: cython.Py_ssize_t, count: cython.ulonglong) -> cython.int:
        """Make sure that `count` bytes from `at` on lie before the end."""
        if at > self.last or count > cython.cast(cython.ulonglong, self.last - at):
            raise self.corrupt(f"element of {count} bytes goes past the end", at)
        return 0

    def little_endian(self, at: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.ulonglong:
        self.need(at, width)
        value: cython.ulonglong = 0
        i: cython.Py_ssize_t
        for i in range(width - 1, -1, -1):
            value = value << 8 | self.body[at + i]
        return value

    def signed_number(self, at: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.longlong:
        value: cython.ulonglong = self.little_endian(at, width)
        half: cython.ulonglong = cython.cast(cython.ulonglong, 1) << (8 * width - 1)
        if value < half:
            return value
        # -1 - (the bits turned round): neither C's 64 bits nor Python's endless ones get in the way.
        return -1 - cython.cast(cython.longlong, half - 1 + half - value)

    def sized(self, name: str, count_at: cython.Py_ssize_t) -> cython.int:
        """The header of ziplist and listpack: total size first, u16 count last."""
        total: cython.ulonglong = self.little_endian(self.start, 4)
        if total != cython.cast(cython.ulonglong, self.last - self.start):
            raise self.corrupt(f"{name} says {total} bytes, has another size", self.start)
        self.declared = self.little_endian(count_at, 2)
        if self.declared == 0xFFFF:
            self.declared = COUNT_THEM
        self.end_marked(name)
        self.at = count_at + 2
        return 0

    def text(
        self, at: cython.Py_ssize_t, head: cython.Py_ssize_t, length: cython.ulonglong
    ) -> cython.Py_ssize_t:
        """The element is the `length` bytes behind `head` bytes of encoding. Returns its end."""
        self.need(at + head, length)
        self.is_number = False
        self.text_start = at + head
        self.text_end = self.text_start + cython.cast(cython.Py_ssize_t, length)
        return self.text_end

    def integer(self, at: cython.Py_ssize_t, width: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """The element is an integer behind one byte of encoding. Returns its end."""
        self.is_number = True
        self.number = self.signed_number(at + 1, width)
        return at + 1 + width

    def all_read(self) -> cython.int:
        if self.declared not in (COUNT_THEM, self.elements):
            raise self.corrupt(
                f"{self.declared} elements are said, {self.elements} are there", self.start
            )
        return 0


@cython.cclass
class ListpackReader(PackedReader):
    """listpack.c: lpValidateNext. Entry: encoding and data, then their size written backwards."""

    def open(self, body: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        self.begin(body, start, end, 7, "listpack")
        self.sized("listpack", start + 4)
        return 0

    def advance(self) -> cython.bint:
        if self.at == self.last:
            self.all_read()
            return False
        size: cython.Py_ssize_t = self.entry(self.at) - self.at
        width: cython.Py_ssize_t = 1
        if size > 127:
            width = 2 + (size >= 16383) + (size >= 2097151) + (size >= 268435455)
        self.need(self.at + size, width)
        rest: cython.Py_ssize_t = size
        more: cython.int = 0
        i: cython.Py_ssize_t
        for i in range(self.at + size, self.at + size + width):
            # The last byte holds the lowest 7 bits; each but the first says that more stand before.
            rest = size >> (7 * (self.at + size + width - 1 - i))
            if self.body[i] != (rest & 127 | more):
                raise self.corrupt("listpack element with a wrong back length", self.at)
            more = 128
        self.at += size + width
        self.elements += 1
        return True

    def entry(self, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read encoding and data from `at` on. Returns where the back length begins."""
        first: cython.Py_ssize_t = self.body[at]
        raw: cython.Py_ssize_t
        if first < 0x80:
            self.is_number = True
            self.number = first
            return at + 1
        if first < 0xC0:
            return self.text(at, 1, first & 0x3F)
        if first < 0xE0:
            self.need(at, 2)
            raw = (first & 0x1F) << 8 | self.body[at + 1]
            self.is_number = True
            self.number = raw - 8192 if raw >= 4096 else raw
            return at + 2
        if first < 0xF0:
            self.need(at, 2)
            return self.text(at, 2, (first & 0x0F) << 8 | self.body[at + 1])
        if first == 0xF0:
            return self.text(at, 5, self.little_endian(at + 1, 4))
        if first < 0xF4:
            return self.integer(at, first - 0xF1 + 2)
        if first == 0xF4:
            return self.integer(at, 8)
        raise self.corrupt(f"listpack element encoding {first:#x} is not defined", at)


@cython.cclass
class ZiplistReader(PackedReader):
    """ziplist.c: zipEntrySafe. Entry: size of the entry before, encoding, data."""

    def open(self, body: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        self.begin(body, start, end, 11, "ziplist")
        self.sized("ziplist", start + 8)
        self.tail = start + cython.cast(cython.Py_ssize_t, self.little_endian(start + 4, 4))
        self.last_entry = self.at
        self.previous_size = 0
        return 0

    def advance(self) -> cython.bint:
        if self.at == self.last:
            if self.tail != self.last_entry:
                raise self.corrupt("ziplist with a wrong offset of its last entry", self.start + 4)
            self.all_read()
            return False
        at: cython.Py_ssize_t = self.at
        previous: cython.ulonglong = self.body[at]
        at += 1
        if previous == 0xFE:
            previous = self.little_endian(at, 4)
            at += 4
        elif previous == 0xFF:
            raise self.corrupt("ziplist ends before its end", self.at)
        if previous != cython.cast(cython.ulonglong, self.previous_size):
            raise self.corrupt("ziplist entry with a wrong size of the one before", self.at)
        at = self.data(at)
        self.last_entry = self.at
        self.previous_size = at - self.at
        self.at = at
        self.elements += 1
        return True

    def data(self, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Read encoding and data from `at` on. Returns where the next entry begins."""
        self.need(at, 1)
        first: cython.Py_ssize_t = self.body[at]
        length: cython.ulonglong
        i: cython.Py_ssize_t
        if first < 0x40:
            return self.text(at, 1, first)
        if first < 0x80:
            self.need(at, 2)
            return self.text(at, 2, (first & 0x3F) << 8 | self.body[at + 1])
        if first < 0xC0:
            # The servers write 0x80 and look at the upper two bits only. Big endian, unlike the rest.
            self.need(at, 5)
            length = 0
            for i in range(1, 5):
                length = length << 8 | self.body[at + i]
            return self.text(at, 5, length)
        if first == 0xC0:
            return self.integer(at, 2)
        if first == 0xD0:
            return self.integer(at, 4)
        if first == 0xE0:
            return self.integer(at, 8)
        if first == 0xF0:
            return self.integer(at, 3)
        if first == 0xFE:
            return self.integer(at, 1)
        if 0xF1 <= first <= 0xFD:
            self.is_number = True
            self.number = first - 0xF1
            return at + 1
        raise self.corrupt(f"ziplist entry encoding {first:#x} is not defined", at)


@cython.cclass
class IntsetReader(PackedReader):
    """intset.c: intsetValidateIntegrity."""

    def open(self, body: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        self.begin(body, start, end, 8, "intset")
        width: cython.ulonglong = self.little_endian(start, 4)
        if width not in (2, 4, 8):
            raise self.corrupt(f"intset of {width} byte integers", start)
        if self.little_endian(start + 4, 4) * width != cython.cast(
            cython.ulonglong, end - start - 8
        ):
            raise self.corrupt("intset says another count than it has", start + 4)
        self.width = width
        self.declared = COUNT_THEM
        self.is_number = True
        self.at = start + 8
        return 0

    def advance(self) -> cython.bint:
        if self.at == self.last:
            return False
        before: cython.longlong = self.number
        self.number = self.signed_number(self.at, self.width)
        if self.elements > 0 and self.number <= before:
            raise self.corrupt("intset out of order", self.at)
        self.at += self.width
        self.elements += 1
        return True


@cython.cclass
class ZipmapReader(PackedReader):
    """zipmap.c: zipmapValidateIntegrity. Fields and values come in turn."""

    def open(self, body: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        self.begin(body, start, end, 2, "zipmap")
        self.declared = 2 * self.body[start]
        if self.declared >= 2 * 254:
            self.declared = COUNT_THEM
        self.end_marked("zipmap")
        self.at = start + 1
        self.is_number = False
        self.is_value_next = False
        return 0

    def advance(self) -> cython.bint:
        unused: cython.Py_ssize_t = 0
        if self.at == self.last:
            if self.is_value_next:
                raise self.corrupt("zipmap field without a value", self.at)
            self.all_read()
            return False
        length: cython.ulonglong = self.length(self.at)
        at: cython.Py_ssize_t = self.at + (5 if self.body[self.at] == 0xFE else 1)
        if self.is_value_next:
            self.need(at, 1)
            unused = self.body[at]
            at += 1
        self.need(at, length)
        self.text_start = at
        self.text_end = at + cython.cast(cython.Py_ssize_t, length)
        self.need(self.text_end, unused)
        self.at = self.text_end + unused
        self.is_value_next = not self.is_value_next
        self.elements += 1
        return True

    def length(self, at: cython.Py_ssize_t) -> cython.ulonglong:
        first: cython.ulonglong = self.body[at]
        if first == 0xFE:
            return self.little_endian(at + 1, 4)
        if first == 0xFF:
            raise self.corrupt("zipmap ends before its end", at)
        return first


def all_elements(reader: PackedReader, body: bytes) -> list[object]:
    reader.open(body, 0, len(body))
    found: list[object] = []
    while reader.advance():
        found.append(reader.element())
    return found


def listpack_items(body: bytes) -> list[object]:
    """Every element of a listpack: integers as int, text as bytes.

    Raises:
        CorruptRdb: the bytes are not a sound listpack, and nothing else.
    """
    return all_elements(ListpackReader(), body)


def ziplist_items(body: bytes) -> list[object]:
    """Every element of a ziplist; otherwise as listpack_items."""
    return all_elements(ZiplistReader(), body)


def intset_items(body: bytes) -> list[object]:
    """Every integer of an intset; otherwise as listpack_items."""
    return all_elements(IntsetReader(), body)


def zipmap_items(body: bytes) -> list[object]:
    """Fields and values of a zipmap in turn, all bytes; otherwise as listpack_items."""
    return all_elements(ZipmapReader(), body)
