"""Values as commands, while their bytes arrive: for those too large to be held.

The value is built under another name, which is renamed when it is complete (snapshot.py): strings by SETRANGE, others by
RPUSH, SADD, ZADD, HSET and HPEXPIREAT, bounded in elements and bytes. Each command may be repeated after a lost connection: a
list is cut to the length it must have before more is pushed.
A single element is held whole, and so is a packed collection that is one string of the RDB (ziplist, listpack, intset);
servers keep both small. Layouts: rdb.c, rdbSaveObject.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.lzf import LzfStream
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.rdb_walker import RdbWalker
    from engine.codec.value_items import ValueItems

from math import isnan
from struct import unpack_from

from engine.codec.value_items import KINDS
from engine.errors import CorruptRdb

if not cython.compiled:
    # What `run` answers.
    MORE = 0
    DONE = 1
    FULL = 2
    REFUSED = 3
    # Where it is in the value. Streams have more of them.
    HEAD = 0
    ITEMS = 1
    NODES = 2
    PACKED = 3
    RAW_STRING = 4
    LZF_STRING = 5
    END = 6
    BEFORE_VALUE = -1
    BEHIND_VALUE = -2

BATCH_ITEMS = 512
BATCH_BYTES = 32 * 1024
PART_BYTES = 64 * 1024
KEPT_BATCH_BYTES = 4 * 1024 * 1024
LATEST_MS = (1 << 48) - 1
FIELD_TTLS = "field TTLs"
FIELD_TTLS_WITHOUT_MARGIN = "margins of field TTLs of big hashes"
VERBS = {
    "list": b"$5\r\nRPUSH\r\n",
    "set": b"$4\r\nSADD\r\n",
    "zset": b"$4\r\nZADD\r\n",
    "hash": b"$4\r\nHSET\r\n",
}


@cython.cclass
class ValueExpander:
    """`begin` a value at the walker's place, `run` until it answers DONE, feeding the walker when it answers MORE.

    walker: its window holds the value's bytes; what is read is let go. out: where the commands go. plan: SnapshotPlan.
    replies: how many commands were written since the caller last set it to 0. made: elements, or bytes of a string.
    not_carried: what no command brings, by kind; the caller's. reason: why it answered REFUSED; the walker stands before
    `items_left` items then, or BEFORE_VALUE, or BEHIND_VALUE.
    """

    def __init__(self, walker: RdbWalker, out: OutBuffer, plan: object, not_carried: dict) -> None:
        self.walker = walker
        self.out = out
        self.block_bytes = plan.block_bytes
        self.value_limit = plan.value_limit_bytes
        self.string_limit = plan.string_limit_bytes
        self.keeps_field_ttls = 24 in plan.redis_types or 22 in plan.valkey_types
        self.drops_field_ttls = plan.drops_field_ttls
        self.not_carried = not_carried
        self.batch = OutBuffer(BATCH_BYTES + 4096)
        self.replies = 0
        self.reason = ""

    def begin(self, name: bytes, horizon_ms: cython.longlong) -> cython.int:
        """Start on the value that the walker stands before.

        name: of the key that the commands make. horizon_ms: field TTLs before it would need a margin.
        """
        self.name = name
        self.horizon_ms = horizon_ms
        self.walker.wanted = 0
        self.value_type = self.walker.op
        self.is_valkey = self.walker.is_valkey
        self.kind = KINDS.get(self.value_type, "")
        self.stage = HEAD
        self.made = 0
        self.left = self.nodes = 0
        self.earliest = 0
        self.batch_items = 0
        self.batch.pos = 0
        self.moments = []
        self.has_told_ttl = False
        self.reader = None
        self.lzf = None
        self.next_stage = END
        self.items_left = -1
        self.reason = ""
        self.out.put_bytes(b"*2\r\n$3\r\nDEL\r\n")
        self.put_name()
        return 0

    def run(self) -> cython.int:
        """Write commands until the block is full, the value is over, or more bytes are needed.

        Raises:
            CorruptRdb: with the byte offset.
        """
        w = self.walker
        found: cython.int = MORE
        while self.out.pos < self.block_bytes:
            found = self.step()
            if found != FULL:
                break
        else:
            found = FULL
        if found == MORE and w.wanted - w.pos > self.value_limit:
            found = self.refuse_element(w.wanted - w.pos)
        w.record = w.pos
        return found

    def step(self) -> cython.int:
        """One piece of work: FULL when there may be more to do at once."""
        stage: cython.int = self.stage
        if stage == ITEMS:
            if self.left == 0:
                return self.finish_items()
            return self.take_item()
        if stage == PACKED:
            return self.take_packed()
        if stage == NODES:
            return self.take_node()
        if stage == RAW_STRING:
            return self.take_raw()
        if stage == LZF_STRING:
            return self.take_compressed()
        if stage == HEAD:
            return self.take_head()
        return DONE

    def refuse(self, reason: str) -> cython.int:
        self.reason = reason
        if self.stage == ITEMS:
            self.items_left = self.left
        elif self.stage == HEAD:
            self.items_left = BEFORE_VALUE
        elif self.stage == PACKED and self.next_stage == END:
            self.items_left = BEHIND_VALUE
        else:
            self.items_left = self.nodes
        self.batch_items = 0
        return REFUSED

    def refuse_element(self, size: cython.Py_ssize_t) -> cython.int:
        return self.refuse(
            f"one of its elements has {size} bytes or so, and the target takes {self.value_limit} at most"
        )

    def finish_items(self) -> cython.int:
        self.flush()
        self.stage = END
        return DONE

    # ---- the value's head

    def take_head(self) -> cython.int:
        kind: cython.int = self.value_type
        w = self.walker
        at: cython.Py_ssize_t = w.pos
        if kind == 0:
            return self.take_string_head()
        if kind == 24:
            if w.end - at < 8:
                return MORE
            self.earliest = int.from_bytes(w.window[at : at + 8], "little")
            if self.earliest > LATEST_MS + 1:
                raise w.corrupt("earliest field TTL is not a time", at)
            at += 8
        if kind <= 5 or kind == 22 or kind == 24:
            at = w.read_length(at)
            if at < 0:
                return MORE
            self.left = w.number
            self.stage = ITEMS
        elif kind == 14 or kind == 18:
            at = w.read_length(at)
            if at < 0:
                return MORE
            self.nodes = w.number
            self.stage = NODES
        else:
            return self.take_container(at)
        w.pos = at
        return FULL

    def take_container(self, start: cython.Py_ssize_t) -> cython.int:
        """A collection that is one string, whole."""
        w = self.walker
        at: cython.Py_ssize_t = start
        if self.value_type == 25:
            if w.end - at < 8:
                return MORE
            at += 8
        at = w.skip_string(at)
        if at < 0:
            return MORE
        self.open_reader(self.value_type, start, at, END)
        return FULL

    def open_reader(
        self,
        value_type: cython.int,
        start: cython.Py_ssize_t,
        end: cython.Py_ssize_t,
        next_stage: cython.int,
    ) -> cython.int:
        """Go on with what lies in [start, end) of the window, read as a value of `value_type`."""
        w = self.walker
        self.reader = ValueItems(value_type, self.is_valkey, bytes(w.window[start:end]))
        self.reader_base = w.base + start
        w.pos = end
        self.next_stage = next_stage
        self.stage = PACKED
        return 0

    # ---- items

    def take_item(self) -> cython.int:
        """The next item of a plain collection."""
        w = self.walker
        kind: cython.int = self.value_type
        at: cython.Py_ssize_t = w.pos
        first: cython.Py_ssize_t
        second: cython.Py_ssize_t
        moment: cython.longlong = -1
        is_redis_ttl: cython.bint = (kind == 22 or kind == 24) and not self.is_valkey
        if is_redis_ttl:
            at = w.read_length(at)
            if at < 0:
                return MORE
            moment = self.moment_of(w.number, at)
        first = at
        at = w.skip_string(at)
        if at < 0:
            return MORE
        if self.text_bytes(first, at) > self.value_limit:
            return self.refuse_element(self.text_bytes(first, at))
        if kind <= 2:
            self.put_text(first)
        elif kind == 3 or kind == 5:
            second = at
            if kind == 3:
                at = w.skip_score(at)
                if at < 0:
                    return MORE
                self.put_score(self.text_score(second, at))
            else:
                if w.end - at < 8:
                    return MORE
                at += 8
                score = unpack_from("<d", w.window, second)[0]
                if isnan(score):
                    raise w.corrupt("a score is not a number", second)
                self.put_score(score)
            self.put_text(first)
        else:
            second = at
            at = w.skip_string(at)
            if at < 0:
                return MORE
            if self.text_bytes(second, at) > self.value_limit:
                return self.refuse_element(self.text_bytes(second, at))
            if kind == 22 and self.is_valkey:
                if w.end - at < 8:
                    return MORE
                moment = int.from_bytes(w.window[at : at + 8], "little", signed=True)
                at += 8
            if moment >= 0:
                if not self.keeps_field_ttls and not self.drops_field_ttls:
                    return self.refuse("fields of it expire, and the target has no field TTLs")
                self.note_moment(moment, w.text_at(first))
            self.put_text(first)
            self.put_text(second)
        self.left -= 1
        w.pos = at
        self.note_item()
        return FULL

    def moment_of(self, number: cython.ulonglong, at: cython.Py_ssize_t) -> cython.longlong:
        if number == 0:
            return -1
        if number > LATEST_MS + 1:
            raise self.walker.corrupt(f"field TTL {number} is beyond what servers hold", at)
        return self.earliest + number - 1 if self.value_type == 24 else number

    def text_score(self, at: cython.Py_ssize_t, end: cython.Py_ssize_t):
        size: cython.int = self.walker.ptr[at]
        if size == 254:
            return float("inf")
        if size == 255:
            return float("-inf")
        return float(bytes(self.walker.window[at + 1 : end]))

    def take_packed(self) -> cython.int:
        """Some of the reader's items."""
        reader = self.reader
        batch: list = self.read(reader)
        if not batch:
            self.reader = None
            self.stage = self.next_stage
            if self.stage == END:
                self.flush()
                return DONE
            return FULL
        kind: str = self.kind
        for item in batch:
            if self.item_bytes(item) > self.value_limit:
                return self.refuse_element(self.item_bytes(item))
            if kind == "zset":
                self.put_score(item[1])
                self.batch.put_bulk_bytes(item[0])
            elif kind == "hash":
                if item[2] >= 0:
                    if not self.keeps_field_ttls and not self.drops_field_ttls:
                        return self.refuse("fields of it expire, and the target has no field TTLs")
                    self.note_moment(item[2], item[0])
                self.batch.put_bulk_bytes(item[0])
                self.batch.put_bulk_bytes(item[1])
            else:
                self.batch.put_bulk_bytes(item)
            self.note_item()
        return FULL

    def item_bytes(self, item) -> cython.Py_ssize_t:
        """Of the longest text in a reader's item."""
        if self.kind == "hash":
            return max(len(item[0]), len(item[1]))
        return len(item[0]) if self.kind == "zset" else len(item)

    def read(self, reader: ValueItems) -> list:
        """A batch of the reader's; its errors get the place in the RDB."""
        try:
            return reader.next_batch(BATCH_ITEMS, BATCH_BYTES)
        except CorruptRdb as error:
            raise self.walker.corrupt(
                error.message, self.reader_base - self.walker.base + max(error.offset, 0)
            ) from error

    def take_node(self) -> cython.int:
        """The next node of a quicklist: a container, or one element by itself."""
        w = self.walker
        start: cython.Py_ssize_t = w.pos
        at: cython.Py_ssize_t
        if self.nodes == 0:
            return self.finish_items()
        if self.value_type == 18:
            start = w.read_length(start)
            if start < 0:
                return MORE
            if w.number != 1 and w.number != 2:
                raise w.corrupt(f"list node container {w.number} is not known", w.pos)
        is_plain: cython.bint = self.value_type == 18 and w.number == 1
        at = w.skip_string(start)
        if at < 0:
            return MORE
        if is_plain and self.text_bytes(start, at) > self.value_limit:
            return self.refuse_element(self.text_bytes(start, at))
        self.nodes -= 1
        if is_plain:
            self.put_text(start)
            w.pos = at
            self.note_item()
            return FULL
        self.open_reader(10 if self.value_type == 14 else 20, start, at, NODES)
        return FULL

    # ---- a batch

    def put_text(self, at: cython.Py_ssize_t) -> cython.int:
        """The STR at `at`, which is complete, as an argument."""
        w = self.walker
        end: cython.Py_ssize_t
        if w.ptr[at] < 0xC0:
            end = w.skip_string(at)
            self.batch.put_bulk(w.ptr, w.text_start, end - w.text_start)
        else:
            self.batch.put_bulk_bytes(w.text_at(at))
        return 0

    def text_bytes(self, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Of the STR that the walker has just passed."""
        if self.walker.ptr[start] == 0xC3:
            return min(self.walker.number, cython.cast(cython.ulonglong, 1 << 48))
        return end - start

    def put_score(self, score) -> cython.int:
        self.batch.put_bulk_bytes(repr(score).encode())
        return 0

    def note_item(self) -> cython.int:
        self.batch_items += 1
        if self.batch_items >= BATCH_ITEMS or self.batch.pos >= BATCH_BYTES:
            self.flush()
        return 0

    def note_moment(self, moment: cython.longlong, field: bytes) -> cython.int:
        if not self.keeps_field_ttls:
            self.tell_ttl(FIELD_TTLS)
            return 0
        if moment < self.horizon_ms:
            self.tell_ttl(FIELD_TTLS_WITHOUT_MARGIN)
        self.moments.append((moment, field))
        return 0

    def tell_ttl(self, what: str) -> cython.int:
        if not self.has_told_ttl:
            self.has_told_ttl = True
            self.tell(what, 1)
        return 0

    def tell(self, what: str, number: cython.ulonglong) -> cython.int:
        if number > 0:
            self.not_carried[what] = self.not_carried.get(what, 0) + number
        return 0

    def put_name(self) -> cython.int:
        """The first argument of every command."""
        self.out.put_bulk_bytes(self.name)
        self.replies += 1
        return 0

    def flush(self) -> cython.int:
        """Write the command for the items at hand."""
        out = self.out
        batch = self.batch
        count: cython.Py_ssize_t = self.batch_items
        if count == 0:
            return 0
        if self.kind == "list" and self.made > 0:
            # Sent twice, after a connection was lost, the elements below must not be there twice.
            out.put_bytes(b"*4\r\n$5\r\nLTRIM\r\n")
            self.put_name()
            out.put_bytes(b"$1\r\n0\r\n")
            out.put_bulk_number(self.made - 1)
        is_pairs: cython.bint = self.kind == "hash" or self.kind == "zset"
        out.put_header(42, 2 + (2 * count if is_pairs else count))
        out.put_bytes(VERBS[self.kind])
        self.put_name()
        out.put(batch.ptr, 0, batch.pos)
        self.made += count
        self.batch_items = 0
        batch.pos = 0
        if batch.capacity > KEPT_BATCH_BYTES:
            self.batch = OutBuffer(BATCH_BYTES + 4096)
        if self.moments:
            self.put_moments()
        return 0

    def put_moments(self) -> cython.int:
        """The expiries of the batch's fields, a command for those in a row that have the same."""
        out = self.out
        moments: list = self.moments
        count: cython.Py_ssize_t = len(moments)
        at: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        i: cython.Py_ssize_t
        while at < count:
            end = at + 1
            while end < count and moments[end][0] == moments[at][0]:
                end += 1
            out.put_header(42, 5 + end - at)
            out.put_bytes(b"$10\r\nHPEXPIREAT\r\n")
            self.put_name()
            out.put_bulk_number(moments[at][0])
            out.put_bytes(b"$6\r\nFIELDS\r\n")
            out.put_bulk_number(end - at)
            for i in range(at, end):
                out.put_bulk_bytes(moments[i][1])
            at = end
        self.moments = []
        return 0

    # ---- strings

    def take_string_head(self) -> cython.int:
        w = self.walker
        at: cython.Py_ssize_t = w.pos
        if at >= w.end:
            return MORE
        first: cython.int = w.ptr[at]
        after: cython.Py_ssize_t
        if first < 0xC0:
            after = w.read_length(at)
            if after < 0:
                return MORE
            self.total = w.number
            self.stage = RAW_STRING
            w.pos = after
        elif first == 0xC3:
            after = w.read_length(at + 1)
            if after < 0:
                return MORE
            self.packed_left = w.number
            after = w.read_length(after)
            if after < 0:
                return MORE
            self.total = w.number
            if self.packed_left == 0 or self.total > self.packed_left * 88 + 32 or self.total == 0:
                raise w.corrupt(f"LZF: {self.packed_left} bytes cannot give {self.total}", at)
            self.lzf = LzfStream(self.total, PART_BYTES)
            self.stage = LZF_STRING
            w.pos = after
        else:
            after = w.skip_string(at)
            if after < 0:
                return MORE
            self.put_whole(w.text_at(at))
            w.pos = after
            return DONE
        if self.total > self.string_limit:
            w.pos = at
            self.stage = HEAD
            return self.refuse(
                f"it has {self.total} bytes, and the target takes {self.string_limit} at most (proto-max-bulk-len)"
            )
        if self.total == 0:
            self.put_whole(b"")
            return DONE
        if self.total > PART_BYTES:
            self.put_range(self.total - 1)  # so that the target takes the memory at once
            self.out.put_bytes(b"$1\r\n\0\r\n")
        return FULL

    def put_whole(self, text: bytes) -> cython.int:
        self.out.put_bytes(b"*3\r\n$3\r\nSET\r\n")
        self.put_name()
        self.out.put_bulk_bytes(text)
        self.made = max(len(text), 1)
        self.stage = END
        return 0

    def put_range(self, offset: cython.ulonglong) -> cython.int:
        self.out.put_bytes(b"*4\r\n$8\r\nSETRANGE\r\n")
        self.put_name()
        self.out.put_bulk_number(offset)
        return 0

    def take_raw(self) -> cython.int:
        w = self.walker
        left: cython.ulonglong = self.total - self.made
        count: cython.Py_ssize_t = w.end - w.pos
        wanted: cython.Py_ssize_t = min(left, cython.cast(cython.ulonglong, PART_BYTES))
        if count < wanted:
            return MORE
        self.put_range(self.made)
        self.out.put_bulk(w.ptr, w.pos, wanted)
        w.pos += wanted
        self.made += wanted
        return self.end_of_string()

    def take_compressed(self) -> cython.int:
        w = self.walker
        lzf = self.lzf
        start: cython.Py_ssize_t = w.pos
        end: cython.Py_ssize_t = w.end
        if self.packed_left < cython.cast(cython.ulonglong, end - start):
            end = start + self.packed_left
        try:
            w.pos = lzf.take(w.window, start, end)
        except CorruptRdb as error:
            raise w.corrupt(error.message, max(error.offset, 0)) from error
        self.packed_left -= w.pos - start
        is_over: cython.bint = lzf.made == self.total
        if self.packed_left == 0 and not is_over and lzf.waiting() < PART_BYTES:
            raise w.corrupt(f"LZF: {lzf.made} bytes come out, {self.total} are said", w.pos)
        if is_over and self.packed_left > 0:
            raise w.corrupt(f"LZF: more comes out than the {self.total} bytes said", w.pos)
        if lzf.waiting() < PART_BYTES and not is_over:
            if self.packed_left == cython.cast(cython.ulonglong, end - w.pos):
                raise w.corrupt("LZF: input ends inside an item", w.pos)
            return MORE
        piece: bytes = lzf.give()
        self.put_range(self.made)
        self.out.put_bulk_bytes(piece)
        self.made += len(piece)
        return self.end_of_string()

    def end_of_string(self) -> cython.int:
        if self.made < self.total:
            return FULL
        self.stage = END
        return DONE
