"""A set of 64-bit hashes of key names in memory given from outside, which may be a file's.

256 tables by the hash's top byte, each of which doubles by itself, so that growing never stalls for long. A
table that grows takes a new region behind the last one; its old region is given up. All in words of 64 bits:

    0       mark             1   end: first word that no region has     2   how many hashes are held
    16 …    of each table: first word of its region << 6 | log2 of its slots
    272 …   of each table: slots in use, tombstones among them
    1024 …  regions; a slot holds 0 (free), 1 (tombstone) or a hash

A process that dies in between leaves a whole set: a region is filled before its table points to it. Only the
count may then be short by one.
"""

from sys import byteorder

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

MARK = 0x3130594B46520000  # a set in another byte order must not be taken for one of ours
if not cython.compiled:
    TABLES = 256
    DIRECTORY = 16
    IN_USE = DIRECTORY + TABLES
    HEADER_WORDS = 1024
    FIRST_SLOTS_LOG2 = 6
    PAGE_WORDS = 512
    TOMBSTONE = 1
    AHEAD = 16
EMPTY_SET_BYTES = 8 * (HEADER_WORDS + (TABLES << FIRST_SLOTS_LOG2))
ALL_BITS = 0xFFFFFFFFFFFFFFFF


def word_at(data, at):
    """Eight bytes, little endian; the compiled form reads them at once."""
    return (
        cython.cast(cython.ulonglong, data[at])
        | cython.cast(cython.ulonglong, data[at + 1]) << 8
        | cython.cast(cython.ulonglong, data[at + 2]) << 16
        | cython.cast(cython.ulonglong, data[at + 3]) << 24
        | cython.cast(cython.ulonglong, data[at + 4]) << 32
        | cython.cast(cython.ulonglong, data[at + 5]) << 40
        | cython.cast(cython.ulonglong, data[at + 6]) << 48
        | cython.cast(cython.ulonglong, data[at + 7]) << 56
    )


def mixed(total, word):
    """One word more; can be undone, so that names which differ in one word never get the same hash."""
    word *= PRIME_2
    word ^= word >> 31
    total = (total ^ word) * PRIME_3
    return total ^ (total >> 28)


def hash_bytes(data, start, count, seed):
    """64 bits from `count` bytes of `data`: words of eight bytes, the last one overlapping the one before."""
    i: cython.Py_ssize_t = start
    stop: cython.Py_ssize_t = start + count
    word: cython.ulonglong = 0
    total: cython.ulonglong
    if not cython.compiled:
        return hash_plainly(data[start:stop], seed)
    total = seed ^ (cython.cast(cython.ulonglong, count) * PRIME_1)
    if count >= 8:
        while i + 8 <= stop:
            total = mixed(total, word_at(data, i))
            i += 8
        if i < stop:
            total = mixed(total, word_at(data, stop - 8))
    else:
        for i in range(start, stop):
            word = word << 8 | data[i]
        total = mixed(total, word)
    total ^= total >> 32
    total *= PRIME_2
    total ^= total >> 29
    total *= PRIME_1
    return total ^ (total >> 32)


def hash_plainly(name, seed):
    """The same, with the wrap-around of 64 bits written out."""
    size = len(name)
    total = seed ^ (size * PRIME_1 & ALL_BITS)
    if size >= 8:
        words = [name[at : at + 8] for at in range(0, size - 7, 8)]
        if size % 8:
            words.append(name[size - 8 :])
    else:
        words = [name[::-1]]
    for eight in words:
        word = int.from_bytes(eight, "little") * PRIME_2 & ALL_BITS
        word ^= word >> 31
        total = (total ^ word) * PRIME_3 & ALL_BITS
        total ^= total >> 28
    total ^= total >> 32
    total = total * PRIME_2 & ALL_BITS
    total ^= total >> 29
    total = total * PRIME_1 & ALL_BITS
    return total ^ (total >> 32)


if cython.compiled:
    PRIME_1 = cython.cast(cython.ulonglong, 0xD1B54A32D192ED03)
    PRIME_2 = cython.cast(cython.ulonglong, 0x8CB92BA72F3D8DD7)
    PRIME_3 = cython.cast(cython.ulonglong, 0xF1357AEA2E62A9C5)
else:
    PRIME_1 = 0xD1B54A32D192ED03
    PRIME_2 = 0x8CB92BA72F3D8DD7
    PRIME_3 = 0xF1357AEA2E62A9C5


def hash_name(name, seed):
    """The hash of a key's name (bytes) under a ledger's seed (64 bits)."""
    if not cython.compiled:
        return hash_plainly(name, seed)
    pointer: cython.p_uchar = name
    return hash_bytes(pointer, 0, len(name), seed)


def in_table_order(words):
    """Hashes (bytes, eight for each) in the order of their tables, so that one after the other is filled."""
    i: cython.Py_ssize_t
    at: cython.Py_ssize_t
    count: cython.Py_ssize_t = len(words) >> 3
    if not cython.compiled:
        return in_table_order_plainly(words)
    pointer: cython.p_uchar = words
    source: cython.pointer(cython.ulonglong) = cython.cast(
        cython.pointer(cython.ulonglong), pointer
    )
    if count == 0:
        return b""
    sorted_words = bytearray(count << 3)
    view = memoryview(sorted_words).cast("Q")
    target: cython.pointer(cython.ulonglong) = cython.address(view[0])
    starts = cython.declare(cython.Py_ssize_t[257])
    for i in range(257):
        starts[i] = 0
    for i in range(count):
        starts[(source[i] >> 56) + 1] += 1
    for i in range(1, 257):
        starts[i] += starts[i - 1]
    for i in range(count):
        at = starts[source[i] >> 56]
        starts[source[i] >> 56] = at + 1
        target[at] = source[i]
    return bytes(sorted_words)


def in_table_order_plainly(words):
    """The same."""
    ordered = sorted(memoryview(words).cast("Q"), key=table_of)
    return b"".join(value.to_bytes(8, byteorder) for value in ordered)


def table_of(value):
    """Which table a hash belongs to, in the interpreted form."""
    return value >> 56


@cython.cclass
class NameSink:
    """What a recorder brings hashes of names to: a set (KeySet), or a list of them (key_log.py)."""

    def add_batch(self, values, count):
        """Take the first `count` of `values`; all of them, or it raises."""
        raise NotImplementedError


@cython.final
@cython.cclass
class KeySet(NameSink):
    """A set over `storage`, which gives the memory.

    storage.view(): the whole as a writable memoryview, at least EMPTY_SET_BYTES; zeros make an empty set.
    storage.extend(start, size): have bytes [start, start + size) too, zeros; the set holds no view meanwhile.
    storage.give_up(start, size): these bytes are not used any more. Whatever they raise passes through `add`.

    Raises:
        ValueError: the memory does not hold a set.
    """

    def __init__(self, storage) -> None:
        self.storage = storage
        self.attach(storage.view())
        if self.words[0] == 0:
            self.make_empty()
        self.check()

    def attach(self, view):
        self.view = view.cast("Q")
        self.word_count = len(self.view)
        if self.word_count < HEADER_WORDS:
            raise ValueError("too small for a set of keys")
        if cython.compiled:
            self.words = cython.address(self.view[0])
        else:
            self.words = self.view

    def make_empty(self):
        table: cython.Py_ssize_t
        for table in range(TABLES):
            self.words[DIRECTORY + table] = (
                (HEADER_WORDS + (table << FIRST_SLOTS_LOG2)) << 6
            ) | FIRST_SLOTS_LOG2
        self.words[1] = HEADER_WORDS + (TABLES << FIRST_SLOTS_LOG2)
        self.words[2] = 0
        self.words[0] = MARK

    def check(self):
        table: cython.Py_ssize_t
        if self.words[0] != MARK:
            raise ValueError("not a set of keys")
        end = int(self.words[1])
        for table in range(TABLES):
            entry = int(self.words[DIRECTORY + table])
            slots = 1 << (entry & 63)
            is_inside = HEADER_WORDS <= entry >> 6 and (entry >> 6) + slots <= end
            if not is_inside or int(self.words[IN_USE + table]) >= slots:
                raise ValueError(f"table {table} of the set is not where it should be")
        if end > self.word_count:
            raise ValueError("the set is cut short")

    @property
    def count(self):
        """How many hashes are held."""
        return self.words[2]

    def close(self):
        """Let the memory go; the set cannot be used afterwards."""
        self.words = cython.NULL
        self.view = None
        self.word_count = 0

    def add(self, value):
        """Add a hash: 1 if it is new, 0 if it was there."""
        table: cython.Py_ssize_t
        entry: cython.ulonglong
        start: cython.Py_ssize_t
        mask: cython.Py_ssize_t
        at: cython.Py_ssize_t
        place: cython.Py_ssize_t = -1
        held: cython.ulonglong
        if self.word_count == 0:
            raise ValueError("the set is closed")
        if value < 2:
            value += 2
        table = value >> 56
        entry = self.words[DIRECTORY + table]
        start = entry >> 6
        mask = (cython.cast(cython.Py_ssize_t, 1) << (entry & 63)) - 1
        at = value & mask
        while True:
            held = self.words[start + at]
            if held == value:
                return 0
            if held == 0:
                break
            if held == 1 and place < 0:
                place = start + at
            at = (at + 1) & mask
        if place < 0:
            if (self.words[IN_USE + table] + 1) * 4 > (mask + 1) * 3:
                self.grow(table)
                return self.add(value)
            place = start + at
            self.words[IN_USE + table] += 1
        self.words[place] = value
        self.words[2] += 1
        return 1

    def add_batch(self, values, count):
        """Add `count` hashes, the memory of each being fetched some steps ahead."""
        i: cython.Py_ssize_t
        if self.word_count == 0:
            raise ValueError("the set is closed")
        if cython.compiled:
            for i in range(min(count, AHEAD)):
                self.prefetch(values[i])
        for i in range(count):
            if cython.compiled:
                if i + AHEAD < count:
                    self.prefetch(values[i + AHEAD])
            self.add(values[i])
        return 0

    def add_words(self, words):
        """Add hashes given as bytes, eight for each; see `in_table_order`."""
        if cython.compiled:
            pointer: cython.p_uchar = words
            self.add_batch(cython.cast(cython.pointer(cython.ulonglong), pointer), len(words) >> 3)
        else:
            self.add_batch(memoryview(words).cast("Q"), len(words) >> 3)

    def prefetch(self, value):
        """Have the memory brought that `add` of this hash will look at first."""
        entry: cython.ulonglong
        mask: cython.Py_ssize_t
        if cython.compiled:
            place: cython.pointer(cython.ulonglong)
            entry = self.words[DIRECTORY + (value >> 56)]
            mask = (cython.cast(cython.Py_ssize_t, 1) << (entry & 63)) - 1
            place = self.words + (entry >> 6) + (value & mask)
            key_set_prefetch(place)  # noqa: F821 - a C macro of key_set.pxd

    def find(self, value):
        """The word that holds the hash, or -1."""
        entry: cython.ulonglong
        start: cython.Py_ssize_t
        mask: cython.Py_ssize_t
        at: cython.Py_ssize_t
        held: cython.ulonglong
        if self.word_count == 0:
            return -1
        if value < 2:
            value += 2
        entry = self.words[DIRECTORY + (value >> 56)]
        start = entry >> 6
        mask = (cython.cast(cython.Py_ssize_t, 1) << (entry & 63)) - 1
        at = value & mask
        while True:
            held = self.words[start + at]
            if held == value:
                return start + at
            if held == 0:
                return -1
            at = (at + 1) & mask

    def contains(self, value):
        """Whether the hash is held."""
        return self.find(value) >= 0

    def discard(self, value):
        """Remove a hash; whether it was there."""
        place: cython.Py_ssize_t = self.find(value)
        if place < 0:
            return False
        self.words[place] = TOMBSTONE
        self.words[2] -= 1
        return True

    def grow(self, table):
        """Move a table to a new region: of more slots, or of as many where tombstones filled it."""
        entry: cython.ulonglong = self.words[DIRECTORY + table]
        bits: cython.int = entry & 63
        old: cython.Py_ssize_t = entry >> 6
        old_slots: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 1) << bits
        live: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t
        at: cython.Py_ssize_t
        for i in range(old, old + old_slots):
            if self.words[i] > 1:
                live += 1
        if live * 2 > old_slots:
            bits += 2 if bits < 12 else 1  # small ones take fewer steps
        slots: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 1) << bits
        mask: cython.Py_ssize_t = slots - 1
        new: cython.Py_ssize_t = self.words[1]
        if slots >= PAGE_WORDS:  # whole pages, which can be given up one day
            new = (new + PAGE_WORDS - 1) // PAGE_WORDS * PAGE_WORDS
        self.words = cython.NULL
        self.view = None  # memory with a view cannot be resized
        try:
            self.storage.extend(new * 8, slots * 8)
        finally:
            self.attach(self.storage.view())
        self.words[1] = new + slots
        for i in range(old, old + old_slots):
            if self.words[i] > 1:
                at = self.words[i] & mask
                while self.words[new + at] != 0:
                    at = (at + 1) & mask
                self.words[new + at] = self.words[i]
        self.words[DIRECTORY + table] = (cython.cast(cython.ulonglong, new) << 6) | bits
        self.words[IN_USE + table] = live
        if old_slots >= PAGE_WORDS:
            self.storage.give_up(old * 8, old_slots * 8)
