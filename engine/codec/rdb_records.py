"""An RDB as records: each key with its value's bytes, and what lies between the keys.

For those who look into a dump; the transcoder makes commands without ever having these objects.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.rdb_walker import FINISHED, NEED_DATA, RdbWalker

from engine.codec.logical import KeyRecord, OtherRecord

MEMBER = b"keydb-subexpire-key"
MEMBER_WHEN = b"keydb-subexpire-when"


@cython.cclass
class RecordReader(RdbWalker):
    """Feed chunks, take `next_records` until the list is empty, feed again; `finish` at the end.

    is_finished: the RDB's end, with its checksum, has been read.
    """

    def __init__(self, value_limit_bytes: int) -> None:
        RdbWalker.__init__(self, value_limit_bytes)
        self.db = 0
        self.is_finished = False
        self.held = None
        self.member = None
        self.forget_attributes()

    def forget_attributes(self):
        self.expire_at_ms = -1
        self.idle_seconds = -1
        self.frequency = -1
        self.key_metadata = None

    def feed(self, chunk):
        """Add `chunk` (bytes)."""
        self.feed_bytes(chunk)

    @property
    def bytes_read(self):
        """RDB bytes walked so far."""
        return self.base + self.pos

    @property
    def bytes_left_over(self):
        """Bytes behind the RDB's end, known once `is_finished`."""
        return self.end - self.pos

    def rest(self):
        """What was fed behind the RDB's end."""
        return bytes(self.window[self.pos : self.end])

    def next_records(self, limit):
        """Up to `limit` complete records, KeyRecord or OtherRecord; empty when more must be fed.

        Raises:
            CorruptRdb: with the byte offset. Records already returned stand.
        """
        code: cython.int
        found = []
        while len(found) < limit:
            code = self.step()
            if code == NEED_DATA:
                break
            if code == FINISHED:
                if self.held is not None:
                    found.append(self.held)
                    self.held = None
                self.is_finished = True
                break
            if self.op < 243:
                if self.held is not None:
                    found.append(self.held)
                self.held = self.key_record()
            else:
                self.take_other(found)
        return found

    def finish(self):
        """Check that the RDB was complete.

        Raises:
            CorruptRdb: it ended in the middle.
        """
        if not self.is_finished:
            raise self.corrupt("the RDB ends early", self.end)

    def key_record(self):
        record = KeyRecord(
            self.db,
            self.key_text(),
            self.op,
            self.is_valkey,
            bytes(self.window[self.value_start : self.pos]),
            self.base + self.value_start,
            self.expire_at_ms,
            self.idle_seconds,
            self.frequency,
            self.key_metadata,
        )
        self.forget_attributes()
        return record

    def take_other(self, found):
        at: cython.Py_ssize_t = self.record + 1
        if self.op == 252:
            self.expire_at_ms = max(
                int.from_bytes(self.window[at : at + 8], "little", signed=True), 0
            )
        elif self.op == 253:
            self.expire_at_ms = max(
                1000 * int.from_bytes(self.window[at : at + 4], "little", signed=True), 0
            )
        elif self.op == 248:
            self.read_length(at)
            self.idle_seconds = self.number
        elif self.op == 249:
            self.frequency = self.ptr[at]
        elif self.op == 243 and not self.is_valkey:
            self.key_metadata = bytes(self.window[self.record : self.pos])
        elif self.op == 250:
            self.take_aux(at, found)
        else:
            self.let_go(found)
            found.append(self.other_record(at))
        return 0

    def let_go(self, found):
        if self.held is not None:
            found.append(self.held)
            self.held = None

    def take_aux(self, at, found):
        name = self.text_at(at)
        value = self.text_at(self.text_end)
        if name == MEMBER and self.held is not None:
            self.member = value
        elif name == MEMBER_WHEN and self.member is not None:
            if self.held is not None and value.isdigit():
                self.held.member_expiries.append((self.member, int(value)))
            self.member = None
        else:
            found.append(OtherRecord(self.op, (name, value), self.raw_record()))

    def raw_record(self):
        return bytes(self.window[self.record : self.pos])

    def other_record(self, at):
        fields = []
        if self.op == 254:
            self.read_length(at)
            if self.number > cython.cast(cython.ulonglong, 0x7FFFFFFF):
                raise self.corrupt(f"database number {self.number} cannot be", at)
            self.db = self.number
            fields.append(self.db)
        elif self.op == 251 or self.op == 244:
            while at < self.pos:
                at = self.read_length(at)
                fields.append(self.number)
        elif self.op == 245:
            fields.append(self.text_at(at))
        elif self.op == 247:
            self.read_length(at)
            fields.append(self.number)
        elif self.op == 243:
            fields.append(self.text_at(at))
            at = self.read_length(self.text_end)
            while at < self.pos:
                at = self.read_length(at)
                fields.append(self.number)
        elif self.op == 246:
            fields.append(self.text_at(at))
            fields.append(self.text_at(self.text_end))
            at = self.read_length(self.text_end)
            fields.append(self.text_at(at) if self.number != 0 else None)
            fields.append(self.text_at(self.text_end if fields[2] is not None else at))
        return OtherRecord(self.op, tuple(fields), self.raw_record())
