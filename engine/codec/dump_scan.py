"""Counts what is in an RDB: keys and bytes by type, database and prefix, expiries, the biggest keys.

No object is made for a key but for its prefix; values are measured and not looked into.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.rdb_walker import FINISHED, NEED_DATA, RdbWalker

from heapq import heappush, heappushpop

SECOND_MS = 1000
# Upper ends of the TTL histogram, ms from now on; below them all: has expired, above: later.
TTL_BOUNDS_MS = tuple(
    seconds * SECOND_MS for seconds in (0, 60, 3600, 86_400, 7 * 86_400, 30 * 86_400)
)
OTHER_PREFIXES = b""
TYPES = 256


@cython.cclass
class DumpScan(RdbWalker):
    """Feed chunks, `scan` after each; `finish` at the end. Then read the figures.

    by_type: {db: {value type: (keys, bytes)}}, bytes as serialized, with key and type. expiries: keys by place in
    TTL_BOUNDS_MS (the last: later). expiring: {db: keys with an expiry}. prefixes: {text before the delimiter: [keys,
    bytes]}; without one None; what found no room beyond `prefix_limit` names under b"". biggest: heap of (bytes, db,
    key, type), at most `top`. modules: {module id: [keys, bytes]}. aux: the RDB's own fields, latest each.
    functions: libraries. other: records of other kinds by opcode.
    """

    def __init__(self, now_ms: int, top: int, delimiter: bytes, prefix_limit: int) -> None:
        RdbWalker.__init__(self, 1 << 40)
        self.now_ms = now_ms
        self.top = top
        self.threshold = 0
        self.delimiter = delimiter[0] if delimiter else -1
        self.prefix_limit = prefix_limit
        self.db = 0
        self.expire_at_ms = -1
        self.is_finished = False
        self.keys = 0
        self.by_type = {}
        self.expiring = {}
        self.prefixes = {}
        self.biggest = []
        self.modules = {}
        self.aux = {}
        self.other = {}
        self.functions = 0
        self.db_expiring = 0
        self.last_prefix = None
        self.last_figures = None
        if not cython.compiled:
            self.counts = [0] * TYPES
            self.sizes = [0] * TYPES
            self.bins = [0] * (len(TTL_BOUNDS_MS) + 1)
            self.bounds = [0] * len(TTL_BOUNDS_MS)
        i: cython.int
        for i in range(TYPES):
            self.counts[i] = 0
            self.sizes[i] = 0
        for i in range(6):
            self.bounds[i] = TTL_BOUNDS_MS[i]
        for i in range(7):
            self.bins[i] = 0

    def feed(self, chunk):
        """Add `chunk` (bytes)."""
        self.feed_bytes(chunk)

    @property
    def bytes_read(self):
        """RDB bytes walked so far."""
        return self.base + self.pos

    @property
    def bytes_left_over(self):
        """Bytes fed behind the RDB's end."""
        return self.end - self.pos

    @property
    def expiries(self):
        """See the class."""
        return [self.bins[i] for i in range(7)]

    def scan(self):
        """Take every complete record. True: the RDB has ended.

        Raises:
            CorruptRdb: with the byte offset.
        """
        code: cython.int
        while not self.is_finished:
            code = self.step()
            if code == NEED_DATA:
                return False
            if code == FINISHED:
                self.keep_db()
                self.is_finished = True
            elif self.op < 243:
                self.take_key()
            else:
                self.take_opcode()
        return True

    def finish(self):
        """Check that the RDB was complete.

        Raises:
            CorruptRdb: it ended in the middle.
        """
        if not self.is_finished:
            raise self.corrupt("the RDB ends early", self.end)

    def keep_db(self):
        """Put the running figures under the database they belong to."""
        i: cython.int
        types = self.by_type.setdefault(self.db, {})
        for i in range(TYPES):
            if self.counts[i] > 0:
                keys, size = types.get(i, (0, 0))
                types[i] = (keys + self.counts[i], size + self.sizes[i])
                self.counts[i] = 0
                self.sizes[i] = 0
        if not types:
            del self.by_type[self.db]
        if self.db_expiring > 0:
            self.expiring[self.db] = self.expiring.get(self.db, 0) + self.db_expiring
            self.db_expiring = 0

    def take_key(self):
        size: cython.Py_ssize_t = self.pos - self.record
        bin_: cython.int = 0
        self.keys += 1
        self.counts[self.op] += 1
        self.sizes[self.op] += size
        if self.expire_at_ms >= 0:
            self.db_expiring += 1
            while bin_ < 6 and self.expire_at_ms - self.now_ms > self.bounds[bin_]:
                bin_ += 1
            self.bins[bin_] += 1
            self.expire_at_ms = -1
        if self.top > 0 and size > self.threshold:
            self.note_big(size)
        if self.delimiter >= 0:
            self.note_prefix(size)
        if self.op == 7:
            self.read_length(self.value_start)
            figures = self.modules.setdefault(self.number, [0, 0])
            figures[0] += 1
            figures[1] += size
        return 0

    def note_big(self, size):
        entry = (size, self.db, self.key_text(), self.op)
        if len(self.biggest) < self.top:
            heappush(self.biggest, entry)
        else:
            heappushpop(self.biggest, entry)
        if len(self.biggest) >= self.top:
            self.threshold = self.biggest[0][0]

    def note_prefix(self, size):
        at: cython.Py_ssize_t = self.record + 1
        start: cython.Py_ssize_t
        prefix = None
        if self.ptr[at] < 0xC0:
            self.skip_string(at)
            start = self.text_start
            at = start
            while at < self.value_start and self.ptr[at] != self.delimiter:
                at += 1
            if at < self.value_start:
                if self.is_last_prefix(start, at - start):
                    self.last_figures[0] += 1
                    self.last_figures[1] += size
                    return 0
                prefix = bytes(self.window[start:at])
        else:
            text = self.key_text()
            place = text.find(bytes([self.delimiter]))
            if place >= 0:
                prefix = text[:place]
        if self.last_figures is None or prefix != self.last_prefix:
            figures = self.prefixes.get(prefix)
            if figures is None:
                if len(self.prefixes) >= self.prefix_limit and prefix is not None:
                    prefix = OTHER_PREFIXES
                figures = self.prefixes.setdefault(prefix, [0, 0])
            self.last_prefix = prefix
            self.last_figures = figures
        self.last_figures[0] += 1
        self.last_figures[1] += size
        return 0

    def is_last_prefix(self, start, count):
        """Whether the prefix at `start` is that of the key before: it mostly is, and needs no object then."""
        i: cython.Py_ssize_t
        if self.last_prefix is None or len(self.last_prefix) != count:
            return False
        for i in range(count):
            if self.last_prefix[i] != self.ptr[start + i]:
                return False
        return True

    def take_opcode(self):
        at: cython.Py_ssize_t = self.record + 1
        if self.op == 252:
            self.expire_at_ms = max(
                int.from_bytes(self.window[at : at + 8], "little", signed=True), 0
            )
        elif self.op == 253:
            self.expire_at_ms = max(
                1000 * int.from_bytes(self.window[at : at + 4], "little", signed=True), 0
            )
        elif self.op == 254:
            self.keep_db()
            self.read_length(at)
            if self.number > cython.cast(cython.ulonglong, 0x7FFFFFFF):
                raise self.corrupt(f"database number {self.number} cannot be", at)
            self.db = self.number
        elif self.op == 250:
            name = self.text_at(at)
            value = self.text_at(self.text_end)
            if len(self.aux) < 64 or name in self.aux:
                self.aux[name] = value
        elif self.op == 245 or self.op == 246:
            self.functions += 1
        else:
            self.other[self.op] = self.other.get(self.op, 0) + 1
        return 0
