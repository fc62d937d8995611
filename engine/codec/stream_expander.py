"""Streams as commands, while their bytes arrive: XADD, XGROUP, XCLAIM, XSETID.

Pending entries can only be made of entries that are there, so those that a node holds marked as deleted, and those
behind the last node, are added, claimed, and deleted again. Their ids, the ends of the nodes and one group's pending
entries (28 bytes each) are what is held of a stream. What no command brings is counted: pending entries whose node is
gone from among the others, the zone of released ones (type 27), idempotent producers (26). When a consumer was last
seen is never brought.

The layout stands in stream_check.py. Commands: t_stream.c.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.rdb_walker import RdbWalker
    from engine.codec.stream_items import StreamItems
    from engine.codec.value_expander import DONE, END, FULL, HEAD, MORE, ValueExpander

from array import array

from engine.codec.bridge_stream import PRODUCERS
from engine.codec.value_check import STREAMS

if not cython.compiled:
    STREAM_NODES = 10
    STREAM_ENTRIES = 11
    COUNTERS = 12
    GROUP = 13
    PENDING = 14
    CONSUMER = 15
    CLAIMS = 16
    RELEASED = 17
    PRODUCERS_HEAD = 18
    PRODUCER = 19
    MESSAGES = 20
    LAST = 21

PENDING_AT_ONCE = 4096
CLAIMED_AT_ONCE = 512
ID_BYTES = 16
UNKNOWN_ENTRIES_READ = (1 << 64) - 1
MOST_DELIVERIES = (1 << 32) - 1
LOST_PENDING = "pending stream entries that are deleted"
RELEASED_PENDING = "released pending stream entries"
LONE_CONSUMERS = "stream consumers without pending entries"


@cython.cclass
class StreamExpander(ValueExpander):
    """Expands streams as well; see ValueExpander. Made once, used for all values."""

    def __init__(self, walker: RdbWalker, out: OutBuffer, plan: object, not_carried: dict) -> None:
        ValueExpander.__init__(self, walker, out, plan, not_carried)
        self.has_stream_counters = plan.stream_counters
        self.creates_consumers = plan.creates_consumers
        self.forget_stream()

    def forget_stream(self):
        self.deleted_ids = []
        self.places = None
        self.pending_ids = None
        self.pending_counts = None
        self.node_places = array("Q")
        self.top_ms = self.top_seq = 0
        self.has_place = False
        self.groups = self.lives = self.before_live = 0

    def step(self) -> cython.int:
        stage: cython.int = self.stage
        if stage == HEAD and self.kind == "stream":
            return self.take_stream_head()
        if stage < STREAM_NODES:
            return ValueExpander.step(self)
        if stage == STREAM_ENTRIES:
            return self.put_entries()
        if stage == STREAM_NODES:
            return self.take_stream_node()
        if stage == CLAIMS:
            return self.take_claims()
        if stage == PENDING:
            return self.take_pending()
        if stage == COUNTERS:
            return self.take_counters()
        if stage == GROUP:
            return self.take_group()
        if stage == CONSUMER:
            return self.take_consumer()
        if stage == RELEASED:
            return self.take_released()
        if stage == LAST:
            return self.put_last()
        return self.take_producers()

    # ---- entries

    def take_stream_head(self) -> cython.int:
        w = self.walker
        at: cython.Py_ssize_t = w.read_length(w.pos)
        if at < 0:
            return MORE
        self.forget_stream()
        self.generation = STREAMS[self.value_type]
        self.nodes = w.number
        w.pos = at
        self.stage = STREAM_NODES
        return FULL

    def take_stream_node(self) -> cython.int:
        w = self.walker
        start: cython.Py_ssize_t = w.pos
        at: cython.Py_ssize_t
        if self.nodes == 0:
            self.stage = COUNTERS
            return FULL
        at = w.skip_string(start)
        if at < 0:
            return MORE
        at = w.skip_string(at)
        if at < 0:
            return MORE
        self.nodes -= 1
        reader = StreamItems(self.value_type, self.is_valkey, b"\1" + w.window[start:at])
        reader.gives_deleted = True
        self.reader = reader
        self.reader_base = w.base + start - 1
        self.has_place = False
        w.pos = at
        self.stage = STREAM_ENTRIES
        return FULL

    def put_entries(self) -> cython.int:
        """Some entries of the node."""
        batch: list = self.read(self.reader)
        if not batch:
            if self.has_place:
                self.node_places.append(self.top_ms)
                self.node_places.append(self.top_seq)
            self.reader = None
            self.stage = STREAM_NODES
            return FULL
        for ms, seq, pairs in batch:
            if not self.has_place:
                self.has_place = True
                self.node_places.append(ms)
                self.node_places.append(seq)
            if pairs is not None and max(map(len, pairs), default=0) > self.value_limit:
                return self.refuse_element(max(map(len, pairs)))
            self.put_entry(ms, seq, pairs)
        self.made += len(batch)
        return FULL

    def put_entry(self, ms: cython.ulonglong, seq: cython.ulonglong, pairs) -> cython.int:
        """XADD; pairs None: it is deleted, and only there for those who have it pending."""
        out = self.out
        entry: bytes = b"%d-%d" % (ms, seq)
        if pairs is None:
            self.deleted_ids.append(entry)
            if self.lives == 0:
                self.before_live += 1
            pairs = (b"", b"")
        else:
            self.lives += 1
        out.put_header(42, 3 + len(pairs))
        out.put_bytes(b"$4\r\nXADD\r\n")
        self.put_name()
        out.put_bulk_bytes(entry)
        for piece in pairs:
            out.put_bulk_bytes(piece)
        self.top_ms = ms
        self.top_seq = seq
        return 0

    # ---- the stream's own figures

    def lengths(self, count: cython.int):
        """The next `count` LENs; None if they are not all there."""
        w = self.walker
        at: cython.Py_ssize_t = w.pos
        found: list = []
        i: cython.int
        for i in range(count):
            at = w.read_length(at)
            if at < 0:
                return None
            found.append(w.number)
        w.pos = at
        return found

    def take_counters(self) -> cython.int:
        found = self.lengths(4 if self.generation == 1 else 9)
        if found is None:
            return MORE
        self.counters = found
        self.groups = found[len(found) - 1]
        self.places = self.node_places
        if self.made == 0:
            # A stream without entries: a group makes it, and goes.
            self.out.put_bytes(b"*6\r\n$6\r\nXGROUP\r\n$6\r\nCREATE\r\n")
            self.put_name()
            self.out.put_bytes(b"$1\r\nx\r\n$1\r\n0\r\n$8\r\nMKSTREAM\r\n")
            self.out.put_bytes(b"*4\r\n$6\r\nXGROUP\r\n$7\r\nDESTROY\r\n")
            self.put_name()
            self.out.put_bytes(b"$1\r\nx\r\n")
        if self.has_stream_counters:
            # What a group has read can't be more than was added.
            self.put_setid((self.top_ms, self.top_seq), self.made, (0, 0))
        self.stage = GROUP
        return FULL

    def put_setid(self, last, least: cython.ulonglong, max_deleted) -> cython.int:
        """XSETID; entries added: what the stream says, but `least` at least. A largest deleted id of 0-0 changes nothing."""
        out = self.out
        figures: list = self.counters
        added: cython.ulonglong = figures[0] if self.generation == 1 else figures[7]
        out.put_header(42, 7 if self.has_stream_counters else 3)
        out.put_bytes(b"$6\r\nXSETID\r\n")
        self.put_name()
        out.put_bulk_bytes(b"%d-%d" % last)
        if self.has_stream_counters:
            out.put_bytes(b"$12\r\nENTRIESADDED\r\n")
            out.put_bulk_number(max(added, least))
            out.put_bytes(b"$12\r\nMAXDELETEDID\r\n")
            out.put_bulk_bytes(b"%d-%d" % max_deleted)
        return 0

    def put_last(self) -> cython.int:
        """Remove what was added for the pending entries only, then the last id and the counters."""
        out = self.out
        deleted: list = self.deleted_ids
        if self.before_live > 0:
            # Trimming leaves the largest deleted id alone, so it can be what the source says.
            out.put_bytes(b"*4\r\n$5\r\nXTRIM\r\n")
            self.put_name()
            out.put_bytes(b"$6\r\nMAXLEN\r\n")
            out.put_bulk_number(self.made - self.before_live)
            del deleted[: self.before_live]
        while deleted:
            some = deleted[-CLAIMED_AT_ONCE:]
            del deleted[-CLAIMED_AT_ONCE:]
            out.put_header(42, 2 + len(some))
            out.put_bytes(b"$4\r\nXDEL\r\n")
            self.put_name()
            for entry in some:
                out.put_bulk_bytes(entry)
        figures = self.counters
        last = max((figures[1], figures[2]), (self.top_ms, self.top_seq))
        max_deleted = (0, 0) if self.generation == 1 else min((figures[5], figures[6]), last)
        if last != (0, 0):
            self.put_setid(last, self.lives, max_deleted)
        self.forget_stream()
        self.made = max(self.made, 1)  # also one without entries is a value
        self.stage = END
        return DONE

    # ---- groups

    def take_group(self) -> cython.int:
        w = self.walker
        start: cython.Py_ssize_t = w.pos
        if self.groups == 0:
            self.stage = PRODUCERS_HEAD if self.generation >= 4 else LAST
            return FULL
        at: cython.Py_ssize_t = w.skip_string(start)
        if at < 0:
            return MORE
        w.pos = at
        found = self.lengths(3 if self.generation == 1 else 4)
        if found is None:
            w.pos = start
            return MORE
        at = w.pos
        self.group = w.text_at(start)
        w.pos = at
        self.groups -= 1
        self.put_group(found)
        self.pending_left = found[len(found) - 1]
        self.pending_ids = None
        self.pending_counts = None
        self.pending_list = array("Q")
        self.count_list = array("I")
        self.stage = PENDING
        return FULL

    def put_group(self, figures: list) -> cython.int:
        out = self.out
        tells_read: cython.bint = (
            self.has_stream_counters and self.generation > 1 and figures[2] != UNKNOWN_ENTRIES_READ
        )
        out.put_header(42, 5 + 2 * tells_read)
        out.put_bytes(b"$6\r\nXGROUP\r\n$6\r\nCREATE\r\n")
        self.put_name()
        out.put_bulk_bytes(self.group)
        out.put_bulk_bytes(b"%d-%d" % (figures[0], figures[1]))
        if tells_read:
            out.put_bytes(b"$11\r\nENTRIESREAD\r\n")
            out.put_bulk_number(figures[2])
        return 0

    def big_endian(self, at: cython.Py_ssize_t) -> cython.ulonglong:
        value: cython.ulonglong = 0
        i: cython.Py_ssize_t
        for i in range(at, at + 8):
            value = value << 8 | self.walker.ptr[i]
        return value

    def take_pending(self) -> cython.int:
        """Some of the group's pending entries: id, moment of delivery, count."""
        w = self.walker
        at: cython.Py_ssize_t = w.pos
        after: cython.Py_ssize_t
        ms: cython.ulonglong
        seq: cython.ulonglong
        taken: cython.int = 0
        ids = self.pending_list
        counts = self.count_list
        while self.pending_left > 0 and taken < PENDING_AT_ONCE and w.end - at >= 25:
            after = w.read_length(at + 24)
            if after < 0:
                break
            ms = self.big_endian(at)
            seq = self.big_endian(at + 8)
            if ms > self.top_ms or (ms == self.top_ms and seq > self.top_seq):
                self.put_deleted(ms, seq)
            ids.append(ms)
            ids.append(seq)
            moment = int.from_bytes(w.window[at + 16 : at + 24], "little", signed=True)
            ids.append(max(moment, 0))
            counts.append(min(w.number, cython.cast(cython.ulonglong, MOST_DELIVERIES)))
            at = after
            taken += 1
            self.pending_left -= 1
        w.pos = at
        if self.pending_left > 0:
            return FULL if taken > 0 else MORE
        found = self.lengths(1)
        if found is None:
            return MORE
        self.consumers = found[0]
        self.pending_ids = ids
        self.pending_counts = counts
        self.claimed = 0
        self.stage = CONSUMER
        return FULL

    def put_deleted(self, ms: cython.ulonglong, seq: cython.ulonglong) -> cython.int:
        """A pending entry behind all that are there: it is gone with its node, and can still be added."""
        self.places = None
        self.node_places.extend((ms, seq, ms, seq))
        self.places = self.node_places
        self.put_entry(ms, seq, None)
        self.made += 1
        return 0

    def take_consumer(self) -> cython.int:
        w = self.walker
        start: cython.Py_ssize_t = w.pos
        at: cython.Py_ssize_t
        if self.consumers == 0:
            self.stage = RELEASED
            return FULL
        at = w.skip_string(start)
        if at < 0:
            return MORE
        at += 16 if self.generation >= 3 else 8
        if at > w.end:
            return MORE
        w.pos = at
        found = self.lengths(1)
        if found is None:
            w.pos = start
            return MORE
        at = w.pos
        self.consumer = w.text_at(start)
        w.pos = at
        self.consumers -= 1
        self.claims_left = found[0]
        if self.creates_consumers:
            self.out.put_bytes(b"*5\r\n$6\r\nXGROUP\r\n$14\r\nCREATECONSUMER\r\n")
            self.put_name()
            self.out.put_bulk_bytes(self.group)
            self.out.put_bulk_bytes(self.consumer)
        elif self.claims_left == 0:
            self.tell(LONE_CONSUMERS, 1)
        self.stage = CLAIMS
        return FULL

    def take_claims(self) -> cython.int:
        """Ids of the consumer's pending entries."""
        w = self.walker
        place: cython.Py_ssize_t
        ms: cython.ulonglong
        seq: cython.ulonglong
        taken: cython.int = 0
        while self.claims_left > 0 and taken < CLAIMED_AT_ONCE and w.end - w.pos >= ID_BYTES:
            ms = self.big_endian(w.pos)
            seq = self.big_endian(w.pos + 8)
            place = self.pending_place(ms, seq)
            if place < 0:
                raise w.corrupt("stream: a consumer's pending id is not its group's", w.pos)
            w.pos += ID_BYTES
            taken += 1
            self.claims_left -= 1
            self.claimed += 1
            if self.is_there(ms, seq):
                self.add_claim(place, b"%d-%d" % (ms, seq))
            else:
                self.tell(LOST_PENDING, 1)
        if self.claims_left > 0:
            return FULL if taken > 0 else MORE
        self.put_claims()
        self.stage = CONSUMER
        return FULL

    def pending_place(self, ms: cython.ulonglong, seq: cython.ulonglong) -> cython.Py_ssize_t:
        """Which of the group's pending entries it is, -1: none. They come in the order of their ids."""
        low: cython.Py_ssize_t = 0
        high: cython.Py_ssize_t = len(self.pending_counts)
        middle: cython.Py_ssize_t
        while low < high:
            middle = (low + high) // 2
            if self.pending_ids[3 * middle] < ms or (
                self.pending_ids[3 * middle] == ms and self.pending_ids[3 * middle + 1] < seq
            ):
                low = middle + 1
            else:
                high = middle
        if low < len(self.pending_counts) and (
            self.pending_ids[3 * low] == ms and self.pending_ids[3 * low + 1] == seq
        ):
            return low
        return -1

    def is_there(self, ms: cython.ulonglong, seq: cython.ulonglong) -> cython.bint:
        """Whether a node holds the id, deleted or not."""
        low: cython.Py_ssize_t = 0
        high: cython.Py_ssize_t = len(self.places) // 4
        middle: cython.Py_ssize_t
        at: cython.Py_ssize_t
        while low < high:  # the first node that ends at or behind it
            middle = (low + high) // 2
            at = 4 * middle
            if self.places[at + 2] < ms or (
                self.places[at + 2] == ms and self.places[at + 3] < seq
            ):
                low = middle + 1
            else:
                high = middle
        at = 4 * low
        if at >= len(self.places):
            return False
        return self.places[at] < ms or (self.places[at] == ms and self.places[at + 1] <= seq)

    def add_claim(self, place: cython.Py_ssize_t, entry: bytes) -> cython.int:
        moment: cython.ulonglong = self.pending_ids[3 * place + 2]
        count: cython.uint = self.pending_counts[place]
        if self.batch_items > 0 and (
            moment != self.claim_moment
            or count != self.claim_count
            or self.batch_items >= CLAIMED_AT_ONCE
        ):
            self.put_claims()
        self.claim_moment = moment
        self.claim_count = count
        self.batch.put_bulk_bytes(entry)
        self.batch_items += 1
        return 0

    def put_claims(self) -> cython.int:
        out = self.out
        if self.batch_items == 0:
            return 0
        out.put_header(42, 11 + self.batch_items)
        out.put_bytes(b"$6\r\nXCLAIM\r\n")
        self.put_name()
        out.put_bulk_bytes(self.group)
        out.put_bulk_bytes(self.consumer)
        out.put_bytes(b"$1\r\n0\r\n")
        out.put(self.batch.ptr, 0, self.batch.pos)
        out.put_bytes(b"$4\r\nTIME\r\n")
        out.put_bulk_number(self.claim_moment)
        out.put_bytes(b"$10\r\nRETRYCOUNT\r\n")
        out.put_bulk_number(self.claim_count)
        out.put_bytes(b"$5\r\nFORCE\r\n$6\r\nJUSTID\r\n")
        self.batch.pos = 0
        self.batch_items = 0
        return 0

    def take_released(self) -> cython.int:
        """The end of a group: in type 27 the ids of pending entries that no consumer has."""
        w = self.walker
        count: cython.ulonglong = 0
        start: cython.Py_ssize_t = w.pos
        if self.generation >= 5:
            found = self.lengths(1)
            if found is None:
                return MORE
            count = found[0]
            if count > cython.cast(cython.ulonglong, len(self.pending_counts)):
                raise w.corrupt("stream: more released pending ids than pending ones", start)
            if w.end - w.pos < cython.cast(cython.Py_ssize_t, ID_BYTES * count):
                w.pos = start
                return MORE
            w.pos += ID_BYTES * count
            self.tell(RELEASED_PENDING, count)
        if self.claimed + count != cython.cast(cython.ulonglong, len(self.pending_counts)):
            raise w.corrupt("stream: a pending id belongs to no consumer, or to two", start)
        self.pending_ids = None
        self.pending_counts = None
        self.stage = GROUP
        return FULL

    # ---- idempotent producers

    def take_producers(self) -> cython.int:
        w = self.walker
        start: cython.Py_ssize_t = w.pos
        at: cython.Py_ssize_t
        found = None
        if self.stage == PRODUCERS_HEAD:
            found = self.lengths(3)
            if found is None:
                return MORE
            self.producers = found[2]
            self.tell(PRODUCERS, self.producers > 0)
            self.stage = PRODUCER
        elif self.stage == PRODUCER and self.producers == 0:
            if self.lengths(2) is None:
                return MORE
            self.stage = LAST
        elif self.stage == PRODUCER or self.messages > 0:
            at = w.skip_string(start)
            if at < 0:
                return MORE
            w.pos = at
            found = self.lengths(1 if self.stage == PRODUCER else 2)
            if found is None:
                w.pos = start
                return MORE
            if self.stage == PRODUCER:
                self.producers -= 1
                self.messages = found[0]
                self.stage = MESSAGES
            else:
                self.messages -= 1
        else:
            self.stage = PRODUCER
        return FULL
