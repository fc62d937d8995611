"""RDB bytes in, blocks of target commands out.

A value that the target can load goes as RESTORE with the bytes it has in the RDB (cluster.c, restoreCommand
and createDumpPayload), whatever is in it; a plain string goes as SET. Nothing is decoded, so a hash of a
thousand fields costs as much as a string of the same size. What the target does not know goes in another form
(bridge.py), or not at all.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.big_values import GIVES_OUT, NEEDS_MORE, BigValues
    from engine.codec.bridge import ValueBridge
    from engine.codec.crc64 import crc64_short
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.rdb_walker import FINISHED, NEED_DATA

from engine.codec import rdb_grammar as grammar
from engine.codec.big_values import EMPTY_KEYS
from engine.codec.block import Block
from engine.codec.crc64 import LONG_BYTES, crc64
from engine.codec.field_times import length_prefixed, listpack_with_later_times
from engine.codec.value_check import check_value
from engine.errors import CorruptRdb, UnsupportedByTarget, slots_moving
from engine.settings import ConflictPolicy

# Parts of a value or of the keyspace that RESTORE cannot carry and that are therefore only counted.
KEYDB_MEMBER_TTL = "KeyDB member TTLs"
MODULE_AUX = "module aux data"
SLOT_IMPORT = "keys of slots being imported"
KEY_METADATA = "key metadata"

MAX_LATE_HASHES = 100_000


@cython.cclass
class SnapshotTranscoder(BigValues):
    """Feed chunks of an RDB, take blocks until `next_block` returns None, feed again; `finish` at the end.

    aux: the RDB's own fields (redis-ver, repl-id, …), latest value each. keys_read: key records so far.
    keys_expected: the source's own hint of how many there will be. not_carried: what could not be passed on,
    by kind. All may be read at any time.

    horizon_ms: expiries before this moment get the plan's margin. margined: keys that got one, themselves or
    in their fields. late_hashes: (db, key) of those with it in their fields; late_hashes_lost: how many more.
    recorder: a KeyRecorder for the keys written; None records nothing.
    refused: (db, key, type, why) of what the target cannot hold and the plan leaves out; to be emptied by the caller.
    bridged: keys written in another form than the source's. Values over plan.big_value_bytes go in parts (big_values.py).
    """

    def __init__(self, plan) -> None:
        BigValues.__init__(self, plan)
        self.out = OutBuffer(plan.block_bytes + 64 * 1024)
        self.block_bytes = plan.block_bytes
        self.target_version = plan.target_rdb_version
        self.is_replace = plan.on_conflict is ConflictPolicy.REPLACE
        self.strings_as_set = plan.strings_as_set and self.is_replace
        self.checks_values = plan.check_values
        self.is_live = plan.is_live
        self.margin_ms = plan.margin_ms
        self.horizon_ms = 0
        self.margined = 0
        self.late_hashes = set()
        self.late_hashes_lost = 0
        self.shifted = None
        self.db = 0
        self.target_db = 0
        self.expire_at_ms = -1
        self.idle_seconds = -1
        self.frequency = -1
        self.key_metadata = None
        self.block_replies = 0
        self.block_keys = 0
        self.keys_read = 0
        self.keys_expected = 0
        self.functions_read = 0
        self.is_finished = False
        self.aux = {}
        self.not_carried = {}
        if not cython.compiled:
            self.loadable = [0] * 256
        self.has_loadable = False
        self.bridge = ValueBridge(plan.redis_types, plan.valkey_types, plan.drops_field_ttls)
        self.keeps_field_ttls = 24 in plan.redis_types or 22 in plan.valkey_types
        self.skips_refused = plan.skips_refused
        self.refused = []
        self.bridged = 0
        self.written_type = 0
        self.last_hash = None
        self.last_member = None
        self.key_recorder = None
        self.records_keys = False

    def feed(self, chunk):
        """Add `chunk` (bytes). Blocks are made by `next_block`.

        Returns how many bytes of the chunk lie behind the RDB's end: 0 until `is_finished`.
        """
        self.feed_bytes(chunk)

    @property
    def recorder(self):
        """See the class."""
        return self.key_recorder

    @recorder.setter
    def recorder(self, recorder):
        self.key_recorder = recorder
        self.records_keys = recorder is not None
        if self.records_keys:
            self.key_recorder.select(self.target_db)

    @property
    def bytes_read(self):
        """RDB bytes walked so far."""
        return self.base + self.pos

    @property
    def bytes_left_over(self):
        """Bytes behind the RDB's end, known once `is_finished`."""
        return self.end - self.pos

    def next_block(self, flush):
        """Return the next full block; with `flush` also one that is not full; None when more must be fed.

        Raises:
            CorruptRdb: with the byte offset; blocks already returned stand.
            UnsupportedByTarget: a value or function that the target cannot hold; names the key.
        """
        code: cython.int
        while self.out.pos < self.block_bytes:
            if self.big_value != 0:
                code = self.go_on_with_value()
                if code == NEEDS_MORE:
                    break
                if code == GIVES_OUT:
                    return self.take_block() if self.block_replies > 0 else self.alone_block()
                continue
            code = self.step()
            if code == NEED_DATA:
                if self.grows_too_large():
                    continue
                break
            if code == FINISHED:
                self.is_finished = True
                break
            if self.op < 243:
                if self.pos - self.value_start > self.big_bytes and self.begin_value(
                    self.pos - self.value_start
                ):
                    continue
                self.take_key()
            else:
                self.take_opcode()
        else:
            return self.take_block()
        if flush and self.block_replies > 0:
            return self.take_block()
        return None

    def finish(self):
        """Check that the RDB was complete.

        Raises:
            CorruptRdb: it ended in the middle.
        """
        if not self.is_finished:
            raise self.corrupt("the RDB ends early", self.end)

    def take_block(self):
        if self.records_keys:
            self.key_recorder.drain()
        block = Block(
            data=self.out.take(),
            replies=self.block_replies,
            keys=self.block_keys,
            db=self.target_db,
        )
        self.block_replies = 0
        self.block_keys = 0
        return block

    def take_key(self):
        """Write the command for the key record [record, pos) and forget its attributes."""
        if not self.has_loadable:
            self.fill_loadable()
        self.keys_read += 1
        if self.version == 9:
            self.last_hash = None
        if self.is_empty and grammar.STREAM_TYPES[self.op] == 0:
            self.count(EMPTY_KEYS, 1)  # servers skip such keys on loading; a stream may be empty
        else:
            if self.checks_values:
                self.check_inside()
            self.written_type = self.op
            if self.margin_ms > 0:
                self.take_margin()
            if not self.loadable[self.op] and not self.bridge_value():
                self.forget_attributes()
                return 0
            if self.version == 9 and (self.op == 4 or self.op == 13):
                self.last_hash = (
                    self.target_name()
                )  # KeyDB's, maybe: expiries of its members may follow
            if self.records_keys:
                self.note_key()
            if self.block_replies == 0:
                self.put_select()
            if (
                self.op == 0
                and self.strings_as_set
                and self.idle_seconds < 0
                and self.frequency < 0
                and self.key_metadata is None
                and self.ptr[self.value_start] < 0xC0
            ):
                self.put_set()
            else:
                self.put_restore()
            self.block_replies += 1
            self.block_keys += 1
        self.expire_at_ms = -1
        self.idle_seconds = -1
        self.frequency = -1
        self.key_metadata = None
        return 0

    def forget_attributes(self):
        self.expire_at_ms = -1
        self.idle_seconds = -1
        self.frequency = -1
        self.key_metadata = None
        self.shifted = None

    def bridge_value(self):
        """Bring the current value into a form the target loads. False: there is none, and the key is left out."""
        if self.shifted is not None:
            value = self.shifted
        else:
            value = bytes(self.window[self.value_start : self.pos])
        try:
            written = self.bridge.bridged(self.op, self.is_valkey, value)
        except CorruptRdb as error:
            raise self.corrupt(
                f"key {self.key_text()!r}, {grammar.NAMES.get(self.op, self.op)}: {error.message}",
                self.value_start + max(error.offset, 0),
            ) from error
        if written is None:
            name = grammar.NAMES.get(self.op, f"type {self.op}")
            self.refuse(self.key_text(), f"{name}, RDB type {self.op}", self.bridge.reason)
            return False
        self.written_type = written[0]
        self.shifted = written[1]
        self.bridged += 1
        return True

    def refuse(self, key, what, why):
        """Leave it out and note it, or stop: as the plan says."""
        if not self.skips_refused:
            raise UnsupportedByTarget(
                f"the target cannot hold {key!r} of database {self.db}: {what}: {why}",
                detail=f"the target's own RDB version is {self.target_version}",
                hint="use a target that knows it, remove it from the source, or leave such keys out with "
                "--on-unsupported skip (field TTLs alone: --field-ttls drop)",
            )
        self.refused.append((self.db, key, what, why))

    def take_margin(self):
        """Put off the current key's expiries that lie before the horizon."""
        has_margin: cython.bint = False
        self.shifted = None
        if self.expire_at_ms >= 0 and self.expire_at_ms < self.horizon_ms:
            self.expire_at_ms += self.margin_ms
            has_margin = True
        if self.keeps_field_ttls and (
            self.op == 24 or self.op == 25 or (self.op == 22 and self.is_valkey)
        ):
            self.shifted = self.value_with_later_fields()
            if self.shifted is not None:
                has_margin = True
                if len(self.late_hashes) < MAX_LATE_HASHES:
                    self.late_hashes.add((self.target_db, self.target_name()))
                else:
                    self.late_hashes_lost += 1
        if has_margin:
            self.margined += 1
        return 0

    def value_with_later_fields(self):
        """The current value, a hash with field expiries, with those put off; None if none lies before the horizon."""
        at: cython.Py_ssize_t = self.value_start
        end: cython.Py_ssize_t = self.pos
        count: cython.ulonglong
        is_changed: cython.bint = False
        if self.op == 22:
            value = self.window[at:end]
            at = self.read_length(at)
            count = self.number
            while count > 0:
                count -= 1
                at = self.skip_string(self.skip_string(at))
                place = at - self.value_start
                moment = int.from_bytes(value[place : place + 8], "little", signed=True)
                if 0 <= moment < self.horizon_ms:
                    moment += self.margin_ms
                    value[place : place + 8] = moment.to_bytes(8, "little", signed=True)
                    is_changed = True
                at += 8
            return bytes(value) if is_changed else None
        earliest = int.from_bytes(self.window[at : at + 8], "little")
        if earliest >= self.horizon_ms:
            return None
        head = (earliest + self.margin_ms).to_bytes(8, "little")
        if self.op == 24:
            return head + bytes(self.window[at + 8 : end])
        try:
            return head + length_prefixed(
                listpack_with_later_times(self.text_at(at + 8), self.margin_ms)
            )
        except CorruptRdb as error:
            raise self.corrupt(f"key {self.key_text()!r}: {error.message}", at + 8) from error

    def fill_loadable(self):
        types = self.plan.valkey_types if self.is_valkey else self.plan.redis_types
        i: cython.int
        for i in range(256):
            self.loadable[i] = i in types
        self.has_loadable = True

    def put_select(self):
        self.out.put_bytes(b"*2\r\n$6\r\nSELECT\r\n")
        self.out.put_bulk_number(self.target_db)
        self.block_replies += 1

    def choose_db(self):
        """Keys of the database `db` follow."""
        self.target_db = self.db
        if self.records_keys:
            self.key_recorder.select(self.target_db)
        if self.block_replies > 0:
            self.put_select()

    def target_name(self):
        """The current key's name at the target (selected_snapshot.py)."""
        return self.key_text()

    def put_key(self):
        """Write the current key as a bulk string."""
        at: cython.Py_ssize_t = self.record + 1
        first: cython.int = self.ptr[at]
        if first < 0xC0:
            self.skip_string(at)
            self.out.put_bulk(self.ptr, self.text_start, self.value_start - self.text_start)
        else:
            self.out.put_bulk_bytes(self.key_text())
        return 0

    def note_key(self):
        """Tell the recorder of the current key."""
        at: cython.Py_ssize_t = self.record + 1
        first: cython.int = self.ptr[at]
        if first < 0xC0:
            self.skip_string(at)
            self.key_recorder.note(self.ptr, self.text_start, self.value_start - self.text_start)
        else:
            self.key_recorder.note_bytes(self.key_text())
        return 0

    def put_set(self):
        """`SET key value [PXAT ms]`."""
        out = self.out
        out.put_bytes(b"*5\r\n$3\r\nSET\r\n" if self.expire_at_ms >= 0 else b"*3\r\n$3\r\nSET\r\n")
        self.put_key()
        self.skip_string(self.value_start)
        out.put_bulk(self.ptr, self.text_start, self.pos - self.text_start)
        if self.expire_at_ms >= 0:
            out.put_bytes(b"$4\r\nPXAT\r\n")
            out.put_bulk_number(max(self.expire_at_ms, 1))
        return 0

    def put_restore(self):
        """`RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s | FREQ n]`."""
        out = self.out
        arguments: cython.int = 4
        metadata_bytes: cython.Py_ssize_t = 0
        if self.is_replace:
            arguments += 1
        if self.expire_at_ms >= 0:
            arguments += 1
        if self.frequency >= 0 or self.idle_seconds >= 0:
            arguments += 2
        if self.key_metadata is not None:
            metadata_bytes = len(self.key_metadata)
        out.put_header(42, arguments)
        out.put_bytes(b"$7\r\nRESTORE\r\n")
        self.put_key()
        out.put_bulk_number(max(self.expire_at_ms, 1) if self.expire_at_ms >= 0 else 0)

        value_bytes: cython.Py_ssize_t = self.pos - self.value_start
        if self.shifted is not None:
            value_bytes = len(self.shifted)
        out.put_header(36, metadata_bytes + 1 + value_bytes + 10)
        out.make_room(metadata_bytes + value_bytes + 128)
        start: cython.Py_ssize_t = out.pos
        if metadata_bytes:
            out.put_bytes(self.key_metadata)
        out.put_byte(self.written_type)
        if self.shifted is None:
            out.put(self.ptr, self.value_start, value_bytes)
        else:
            out.put_bytes(self.shifted)
            self.shifted = None
        out.put_little_endian(self.target_version, 2)
        if out.pos - start < LONG_BYTES:
            out.put_little_endian(crc64_short(0, out.ptr, start, out.pos - start), 8)
        else:
            with memoryview(out.data) as view:
                checksum = crc64(view[start : out.pos])
            out.put_little_endian(checksum, 8)
        out.put_line_end()

        if self.is_replace:
            out.put_bytes(b"$7\r\nREPLACE\r\n")
        if self.expire_at_ms >= 0:
            out.put_bytes(b"$6\r\nABSTTL\r\n")
        if self.frequency >= 0:
            out.put_bytes(b"$4\r\nFREQ\r\n")
            out.put_bulk_number(self.frequency)
        elif self.idle_seconds >= 0:
            out.put_bytes(b"$8\r\nIDLETIME\r\n")
            out.put_bulk_number(self.idle_seconds)
        return 0

    def check_inside(self):
        with memoryview(self.window) as view:
            value = bytes(view[self.value_start : self.pos])
        try:
            check_value(self.op, self.is_valkey, value)
            self.key_text()
        except CorruptRdb as error:
            raise self.corrupt(
                f"key {self.key_text()!r}, {grammar.NAMES.get(self.op, self.op)}: {error.message}",
                self.value_start + max(error.offset, 0),
            ) from error

    def count(self, kind, number):
        self.not_carried[kind] = self.not_carried.get(kind, 0) + number

    def take_opcode(self):
        """Act on the complete opcode record [record, pos)."""
        at: cython.Py_ssize_t = self.record + 1
        if self.op == 252:
            self.expire_at_ms = int.from_bytes(self.window[at : at + 8], "little", signed=True)
            if self.expire_at_ms < 0:
                self.expire_at_ms = 0
        elif self.op == 253:
            self.expire_at_ms = 1000 * int.from_bytes(
                self.window[at : at + 4], "little", signed=True
            )
            if self.expire_at_ms < 0:
                self.expire_at_ms = 0
        elif self.op == 248:
            self.read_length(at)
            self.idle_seconds = min(self.number, cython.cast(cython.ulonglong, 0x7FFFFFFF))
        elif self.op == 249:
            self.frequency = self.ptr[at]
        elif self.op == 254:
            self.read_length(at)
            if self.number > cython.cast(cython.ulonglong, 0x7FFFFFFF):
                raise self.corrupt(f"database number {self.number} cannot be", at)
            self.db = self.number
            self.choose_db()
        elif self.op == 251:
            self.read_length(at)
            self.keys_expected += min(self.number, cython.cast(cython.ulonglong, 1 << 48))
        elif self.op == 250:
            self.take_aux(at)
        elif self.op == 245:
            self.put_function(self.text_at(at))
        elif self.op == 246:
            self.put_function(self.released_function(at))
        elif self.op == 247:
            self.count(MODULE_AUX, 1)
        elif self.op == 243:
            self.take_243()
        return 0

    def take_aux(self, at):
        name = self.text_at(at)
        value = self.text_at(self.text_end)
        if name == b"lua":
            if self.block_replies == 0:
                self.put_select()
            self.out.put_bytes(b"*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n")
            self.out.put_bulk_bytes(value)
            self.block_replies += 1
        elif name == b"cluster-asm-task" and value:  # Redis 8.4
            self.note_slot_import()
        elif name == b"keydb-subexpire-key":
            self.last_member = value
        elif name == b"keydb-subexpire-when":
            self.take_member_expiry(value)
        elif len(self.aux) < 64 or name in self.aux:
            self.aux[name] = value

    def take_243(self):
        if self.is_valkey:
            self.note_slot_import()
            return
        self.read_length(self.record + 1)
        if self.number == 0:
            return
        if self.plan.key_metadata:
            self.key_metadata = bytes(self.window[self.record : self.pos])
        else:
            self.count(KEY_METADATA, 1)

    def note_slot_import(self):
        """The shard takes slots over just now, and some of their keys follow (rdb.c, rdbSaveSlotImport…)."""
        if self.is_live:
            raise slots_moving("the snapshot of a shard was made while it took some over")
        self.count(SLOT_IMPORT, 1)

    def take_member_expiry(self, moment):
        """KeyDB's expiry of a member of the key before: a field's goes to a target that has such a thing."""
        member = self.last_member
        self.last_member = None
        if (
            member is None
            or self.last_hash is None
            or not self.keeps_field_ttls
            or not self.is_replace
            or not moment.isdigit()
        ):
            self.count(KEYDB_MEMBER_TTL, 1)
            return
        if self.block_replies == 0:
            self.put_select()
        self.out.put_bytes(b"*6\r\n$10\r\nHPEXPIREAT\r\n")
        self.out.put_bulk_bytes(self.last_hash)
        self.out.put_bulk_bytes(moment)
        self.out.put_bytes(b"$6\r\nFIELDS\r\n$1\r\n1\r\n")
        self.out.put_bulk_bytes(member)
        self.block_replies += 1

    def released_function(self, at):
        """A function of a 7.0 release candidate as released servers take it: the name stands in the code's first line."""
        name = self.text_at(at)
        engine = self.text_at(self.text_end)
        at = self.read_length(self.text_end)
        if self.number != 0:
            self.text_at(at)
            at = self.text_end
        return b"#!%b name=%b\n%b" % (engine.lower(), name, self.text_at(at))

    def put_function(self, code):
        if not self.plan.functions:
            self.refuse(
                code[:60], "function library", "functions need a target of version 7.0 or newer"
            )
            return
        self.functions_read += 1
        if self.block_replies == 0:
            self.put_select()
        if self.is_replace:
            self.out.put_bytes(b"*4\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$7\r\nREPLACE\r\n")
        else:
            self.out.put_bytes(b"*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n")
        self.out.put_bulk_bytes(code)
        self.block_replies += 1
