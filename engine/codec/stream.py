"""Replication stream bytes in, blocks of target commands out, each a transaction with its checkpoint.

A command is copied, not re-encoded; runs of ordinary commands are copied in one piece. The exceptions are
few: PING and REPLCONF only move the offset, MULTI and EXEC are merged into the block's own transaction,
relative times become absolute, and while the target is behind, expiries get a margin. A block never ends inside a
transaction of the source.

The blocks' form stands in block_writer.py.

Source of the stream's shape: replication.c, replicationFeedSlaves; server.c, propagatePendingCommands.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS
    from engine.codec.created_keys import record_created_keys
    from engine.codec.late_keys import LateKeys
    from engine.codec.name_table import NameTable

from engine.codec.command_text import command_at
from engine.errors import SourceRefused, slots_moving

SENTINEL_CHANNEL = b"__sentinel__:hello"
# Where a command that makes a key of others names it.
RESULT_AT = dict.fromkeys(
    b"SUNIONSTORE SINTERSTORE SDIFFSTORE ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE GEOSEARCHSTORE PFMERGE".split(),
    1,
) | dict.fromkeys(b"SMOVE RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE BITOP".split(), 2)
if not cython.compiled:
    # What a command is looked at for; see KINDS.
    ORDINARY = -1
    PING, SELECT, MULTI, EXEC, REPLCONF, PUBLISH, FLUSHALL, FLUSHDB, SWAPDB, FUNCTION, CLUSTER = (
        range(11)
    )
    SET, GETEX, SETEX, EXPIRE, RESTORE = range(11, 16)
    EXPIREAT, FIELD_EXPIRY, MSETEX = range(20, 23)
    MOVING = 30
    PERSIST, MAKING = 40, 41

KINDS = {
    **{name.encode(): kind for kind, name in enumerate("PING SELECT MULTI EXEC REPLCONF PUBLISH FLUSHALL FLUSHDB SWAPDB FUNCTION CLUSTER".split())},
    b"TRIMSLOTS": CLUSTER,
    # Those that can set an expiry as a duration: always.
    b"SET": SET, b"GETEX": GETEX, b"SETEX": SETEX, b"PSETEX": SETEX, b"EXPIRE": EXPIRE, b"PEXPIRE": EXPIRE, b"RESTORE": RESTORE,
    # As a moment: while there is a margin.
    b"EXPIREAT": EXPIREAT, b"PEXPIREAT": EXPIREAT, b"HEXPIREAT": FIELD_EXPIRY, b"HPEXPIREAT": FIELD_EXPIRY,
    b"HSETEX": FIELD_EXPIRY, b"MSETEX": MSETEX,
    # Those that take a key's expiry along: while something is owed.
    b"RENAME": MOVING, b"RENAMENX": MOVING, b"COPY": MOVING, b"MOVE": MOVING,
    # Those whose key may be gone from the target, or be made of keys that are: while that is verified.
    b"PERSIST": PERSIST, b"HPERSIST": PERSIST, **dict.fromkeys((*RESULT_AT, b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER"), MAKING),
}  # fmt: skip
NAMES = NameTable(KINDS.items())


@cython.cclass
class StreamTranscoder(LateKeys):
    """Feed chunks, take blocks until `next_block` returns None, feed again.

    getack_offset: offset after the newest `REPLCONF GETACK`, -1 before the first. flushes: FLUSHALL and
    FLUSHDB seen. pings, messages_dropped (Sentinel's announcements), rewritten: counts. pause_at: take no command
    behind this offset; -1 for none.
    swaps: SWAPDBs seen; swapped: their databases, of those since it was last emptied.
    recorder: a KeyRecorder for the keys that the commands create; None records nothing.
    holds_flushes: FLUSHALL and FLUSHDB are the caller's to do: nothing behind one is taken while flush_is_due is set.
    flushed_db: the source's database that the newest one was about, -1: all.
    """

    def __init__(self, plan) -> None:
        self.plan = plan
        LateKeys.__init__(self, plan)
        self.absolute_expiry = plan.absolute_expiry
        self.in_transaction = False
        self.getack_offset = -1
        self.flushes = 0
        self.pings = self.messages_dropped = self.rewritten = 0
        self.is_late = False
        self.kind = ORDINARY
        self.swaps = 0
        self.swapped = []
        self.pause_at = -1
        self.holds_flushes = self.flush_is_due = False
        self.flushed_db = -1
        self.key_recorder = None
        self.records_keys = False

    def feed(self, chunk, received_ms, is_late):
        """Add `chunk`, received at `received_ms` (wall clock, milliseconds since the epoch).

        is_late: it may have waited at the source before it was sent (behind a snapshot, a lost connection, a
        full spool).
        """
        self.add_bytes(chunk)
        self.received_ms = received_ms
        self.is_late = is_late

    @property
    def recorder(self):
        """See the class."""
        return self.key_recorder

    @recorder.setter
    def recorder(self, recorder):
        self.key_recorder = recorder
        self.records_keys = recorder is not None
        if self.records_keys:
            self.key_recorder.select(self.db)

    @property
    def bytes_waiting(self):
        """Bytes fed that are not yet part of a command taken."""
        return self.end - self.command

    @property
    def has_open_block(self):
        """Whether commands wait in a block that has not been returned."""
        return self.is_open

    def next_block(self, flush):
        """Return the next full block; with `flush` also one that is not full; None when more must be fed.

        Raises:
            StreamOutOfStep: the bytes are not a stream of commands. SourceRefused: slots of the source are moving.
        """
        run: cython.Py_ssize_t = self.command
        found: cython.int
        is_cut: cython.bint = False
        while (self.pause_at < 0 or self.offset < self.pause_at) and not self.flush_is_due:
            found = self.read_command()
            if self.marked_bytes != 0:
                if run < self.command - self.marked_bytes:
                    self.out.put(self.ptr, run, self.command - self.marked_bytes - run)
                run = self.command
                self.marked_bytes = 0
            if found == 0:
                break
            if self.records_keys:
                record_created_keys(self, self.key_recorder)
            if self.is_special() or found == 2:  # what came before it first
                if self.kind == CLUSTER:
                    self.refuse_whole_slots()
                if run < self.command:
                    self.out.put(self.ptr, run, self.command - run)
                self.offset = self.base_offset + self.pos
                self.take_special()
                run = self.pos
            else:
                if not self.is_open:
                    self.open_block()
                self.block_commands += 1
                self.block_replies += 1
                if self.has_index:
                    self.index.note(self, self.out.pos + self.pos - run)
            self.command = self.pos
            self.offset = self.base_offset + self.pos
            if self.in_transaction:
                continue
            if self.offset >= self.next_cut:
                self.pass_cuts()
                is_cut = self.is_open
            if is_cut or self.out.pos + self.pos - run >= self.block_bytes:
                break
        if self.records_keys:
            self.key_recorder.drain()  # before the block can leave
        if run < self.command:
            self.out.put(self.ptr, run, self.command - run)
        if not self.is_open or self.in_transaction:
            return None
        if flush or is_cut or self.out.pos >= self.block_bytes:
            return self.close_block()
        return None

    def is_special(self):
        """Whether the command at hand needs more than copying; `kind` says for what."""
        kind: cython.int = NAMES.number_of(self.ptr, self.argument_start[0], self.argument_bytes[0])
        if kind >= SET:
            if kind < EXPIREAT:
                if not self.absolute_expiry:
                    kind = ORDINARY
                elif (kind == SET and self.expiry_option(3) == 0) or (
                    kind == GETEX and self.expiry_option(2) == 0
                ):
                    kind = ORDINARY
            elif kind < MOVING:
                if self.margin_ms == 0:
                    kind = ORDINARY
            elif kind == MOVING:
                self.moves_keys = True
                if not (
                    self.has_late_keys
                    or self.is_settling
                    or (self.verifies_keys and self.margin_ms > 0)
                ):
                    kind = ORDINARY
            else:
                if kind == MAKING:
                    self.moves_keys = True
                if not self.verifies_keys or self.margin_ms == 0:
                    kind = ORDINARY
        self.kind = kind
        return kind != ORDINARY

    def note_result(self, name):
        """Owe the key that the command at hand makes of others."""
        at = RESULT_AT.get(name, 0)
        if at:
            self.note_late_hash(self.db, self.argument(at))
            return
        arguments = command_at(bytes(self.window[self.command : self.pos]), 0)
        for i in range(2, len(arguments) - 1):
            if arguments[i].upper() in (b"STORE", b"STOREDIST"):
                self.note_late_hash(self.db, arguments[i + 1])

    def expiry_option(self, first):
        """Which argument from `first` on is EX or PX (with a margin also EXAT, PXAT) with a value; 0: none."""
        i: cython.Py_ssize_t
        start: cython.Py_ssize_t
        size: cython.Py_ssize_t
        last: cython.Py_ssize_t = min(self.arguments_done, KEPT_ARGUMENTS) - 1
        for i in range(first, last):
            size = self.argument_bytes[i]
            if size == 2 or (size == 4 and self.margin_ms > 0):
                start = self.argument_start[i]
                if (
                    (self.ptr[start + 1] & 0xDF) == 88
                    and ((self.ptr[start] & 0xDF) == 69 or (self.ptr[start] & 0xDF) == 80)
                    and (
                        size == 2
                        or (
                            (self.ptr[start + 2] & 0xDF) == 65
                            and (self.ptr[start + 3] & 0xDF) == 84
                        )
                    )
                ):
                    return i
        return 0

    def take_special(self):
        """Act on the special command [command, pos); `offset` stands behind it already."""
        kind: cython.int = self.kind
        if self.arguments_done == 0:
            return
        if kind == SET or kind == GETEX or kind == SETEX or kind == EXPIRE or kind == EXPIREAT:
            self.take_expiry(kind)
        elif kind == RESTORE or kind == MSETEX:
            self.take_rare_expiry(kind)
        elif kind == FIELD_EXPIRY:
            self.take_field_expiry(self.argument(0).upper())
        elif kind == PING:
            self.pings += 1
        elif kind == SELECT:
            self.take_select()
        elif kind == MULTI or kind == EXEC:
            self.in_transaction = kind == MULTI
            if not self.has_checkpoint:
                self.copy_command()
        elif kind == REPLCONF:
            if self.argument(1).upper() == b"GETACK":
                self.getack_offset = self.offset
        elif kind == PUBLISH and self.argument(1) == SENTINEL_CHANNEL:
            self.messages_dropped += 1  # would make the source's Sentinels adopt the target
        elif kind == FLUSHALL or kind == FLUSHDB:
            self.flushes += 1
            self.flush_is_due = self.holds_flushes
            self.flushed_db = -1 if kind == FLUSHALL else self.source_db
            if not self.holds_flushes:
                self.copy_command()
        elif kind == SWAPDB:
            self.take_swapdb()
        elif kind == FUNCTION:
            self.take_function()
        else:
            if kind == MOVING:
                self.follow_late_key(self.argument(0).upper())
            elif kind == PERSIST:
                self.note_late_hash(self.db, self.argument(1))
            elif kind == MAKING:
                self.note_result(self.argument(0).upper())
            self.copy_command()

    def refuse_whole_slots(self):
        """Stop at what tells a shard's replicas that it takes slots over, has given some away, or has emptied one.

        Valkey 9: CLUSTER SYNCSLOTS (cluster_migrateslots.c), CLUSTER FLUSHSLOT (cluster.c). Redis 8.4: the first and TRIMSLOTS
        (cluster_asm.c).
        """
        name, what = self.argument(0).upper(), self.argument(1).upper()
        if what == b"FLUSHSLOT":
            slot = self.argument(2)[:5].decode("ascii", "replace")
            raise SourceRefused(
                f"CLUSTER FLUSHSLOT has removed all keys of slot {slot} at the source, and names none of them, "
                f"at offset {self.base_offset + self.pos}",
                detail="the target still has them",
                hint="migrate anew: redis-ferry tasks forget, an empty target, and the same command",
            )
        if name == b"TRIMSLOTS" or what == b"SYNCSLOTS":
            words = b" ".join((name, what, self.argument(2).upper())).decode("ascii", "replace")
            raise slots_moving(
                f"{words[:80]} at offset {self.base_offset + self.pos} of a shard's stream"
            )

    def take_select(self):
        text = self.argument(1)
        if not text.isdigit() or len(text) > 9:
            raise self.out_of_step("SELECT without a database number")
        db = int(text)
        self.db = db
        if not self.takes_marks:
            self.source_db = db
        if self.is_open and self.block_db != db:
            self.put_command([b"SELECT", b"%d" % db])
            self.block_db = db

    def take_swapdb(self):
        """Pass it on; a checkpoint that was swapped out of database 0 with the data is removed there."""
        self.copy_command()
        self.moves_keys = True
        self.swaps += 1
        first, second = self.argument(1), self.argument(2)
        if first.isdigit() and second.isdigit():
            self.swapped.append((int(first), int(second)))
            self.swap_late_keys(int(first), int(second))
        swapped = {self.argument(1), self.argument(2)}
        if self.checkpoint_key and b"0" in swapped and len(swapped) == 2:
            other = (swapped - {b"0"}).pop()
            self.put_command([b"SELECT", other])
            self.put_command([b"DEL", self.checkpoint_key])
            self.put_command([b"SELECT", b"%d" % self.db])

    def take_expiry(self, kind):
        """A command that sets a key's expiry: with the moment it ends, and with the margin if there is one.

        SETEX, PSETEX, EXPIRE, PEXPIRE, SET … EX|PX, GETEX … EX|PX hold durations; since 7.0 sources send
        moments only (expire.c, expireGenericCommand; t_string.c, setGenericCommand). Anything not exactly of
        these forms is copied.
        """
        option: cython.Py_ssize_t = 0
        at: cython.Py_ssize_t = 2  # the argument that says when
        is_seconds: cython.bint
        is_duration: cython.bint
        moment: cython.longlong = -1
        out = self.out
        self.has_margin = False
        if kind == SET or kind == GETEX:
            option = self.expiry_option(3 if kind == SET else 2)
            at = option + 1
            is_duration = self.argument_bytes[option] == 2
            is_seconds = (self.ptr[self.argument_start[option]] & 0xDF) == 69
        else:
            is_duration = kind != EXPIREAT
            is_seconds = (self.ptr[self.argument_start[0]] & 0xDF) != 80
        # NX, XX, GT, LT of EXPIREAT have done their work at the source, which replicates what has had an effect.
        if self.arguments_done <= KEPT_ARGUMENTS and (
            option > 0
            or self.arguments_done == (4 if kind == SETEX else 3)
            or (kind == EXPIREAT and self.arguments_done > 3)
        ):
            moment = self.moment_at(at, is_seconds, is_duration)
        if kind != SET and kind != SETEX and self.verifies_keys and self.margin_ms > 0:
            self.note_late_hash(self.db, self.argument(1))
        if moment < 0:
            self.copy_command()
            return
        if not self.is_open:
            self.open_block()
        if option > 0:
            out.put(self.ptr, self.command, self.head_of(option) - self.command)
            out.put_bytes(b"$4\r\nPXAT\r\n")
            out.put_bulk_number(moment)
            at = self.argument_start[at] + self.argument_bytes[at] + 2
            out.put(self.ptr, at, self.pos - at)
        elif kind == SETEX:
            out.put_bytes(b"*5\r\n$3\r\nSET\r\n")
            out.put_bulk(self.ptr, self.argument_start[1], self.argument_bytes[1])
            out.put_bulk(self.ptr, self.argument_start[3], self.argument_bytes[3])
            out.put_bytes(b"$4\r\nPXAT\r\n")
            out.put_bulk_number(moment)
        else:
            out.put_bytes(b"*3\r\n$9\r\nPEXPIREAT\r\n")
            out.put_bulk(self.ptr, self.argument_start[1], self.argument_bytes[1])
            out.put_bulk_number(moment)
        self.block_commands += 1
        self.block_replies += 1
        self.rewritten += 1
        if self.is_late or self.has_margin:
            self.note_late_key(self.db, self.argument(1))

    def take_rare_expiry(self, kind):
        """RESTORE (cluster.c, restoreCommand) and MSETEX, as take_expiry."""
        self.has_margin = False
        rewritten = self.with_absolute_ttl() if kind == RESTORE else self.with_late_msetex()
        if rewritten is None:
            self.copy_command()
            return
        self.rewritten += 1
        self.put_command(rewritten)
        self.block_commands += 1
        if (self.is_late or self.has_margin) and kind == RESTORE:
            self.note_late_key(self.db, self.argument(1))

    def take_field_expiry(self, name):
        """HPEXPIREAT key ms …, HEXPIREAT key s …, HSETEX key … EXAT s|PXAT ms …, with the margin."""
        i: cython.Py_ssize_t
        at: cython.Py_ssize_t = 2
        is_seconds = name == b"HEXPIREAT"
        named: cython.Py_ssize_t = 0  # the argument that says which unit the moment has
        if name == b"HSETEX":
            at = 0
            for i in range(2, min(self.arguments_done, 6)):
                option = self.argument(i).upper()
                if option == b"FIELDS":
                    break
                if option == b"EXAT" or option == b"PXAT":
                    named = i
                    at = i + 1
                    is_seconds = option == b"EXAT"
        moment = None
        if at > 0 and at < self.arguments_done:
            self.has_margin = False
            moment = self.later_moment(self.argument(at), is_seconds)
        if self.verifies:
            self.note_late_hash(self.db, self.argument(1))
        if moment is None:
            self.copy_command()
            return
        self.rewritten += 1
        if not self.is_open:
            self.open_block()
        out = self.out
        start: cython.Py_ssize_t = self.head_of(named)
        out.put(self.ptr, self.command, start - self.command)
        out.put_bulk_bytes(b"PXAT" if named else b"HPEXPIREAT")
        start = self.argument_start[named] + self.argument_bytes[named] + 2
        out.put(self.ptr, start, self.head_of(at) - start)
        out.put_bulk_bytes(moment)
        start = self.argument_start[at] + self.argument_bytes[at] + 2
        out.put(self.ptr, start, self.pos - start)
        self.block_commands += 1
        self.block_replies += 1
        self.note_late_hash(self.db, self.argument(1))

    def head_of(self, index):
        """Where the '$' of an argument stands."""
        at: cython.Py_ssize_t = self.argument_start[index] - 3
        while self.ptr[at] != 36:
            at -= 1
        return at

    def with_absolute_ttl(self):
        """The arguments of a RESTORE key ttl payload … with ABSTTL; None where they may stay as they are."""
        count = self.arguments_done
        if count < 4 or count >= KEPT_ARGUMENTS or self.argument(2) == b"0":
            return None
        arguments = [self.argument(i) for i in range(count)]
        if b"ABSTTL" in [text.upper() for text in arguments[4:]]:
            moment = self.later_moment(arguments[2], False)
            if moment is None:
                return None
            arguments[2] = moment
            return arguments
        moment = self.moment_after(arguments[2], False)
        if moment is None:
            return None
        arguments[2] = moment
        arguments.append(b"ABSTTL")
        return arguments

    def with_late_msetex(self):
        """MSETEX n key value … EXAT s|PXAT ms with the margin (Redis 8.4; t_string.c, msetexCommand)."""
        arguments = command_at(bytes(self.window[self.command : self.pos]), 0)
        if len(arguments) < 4 or not arguments[1].isdigit():
            return None
        first = 2 + 2 * int(arguments[1])
        for index in range(first, len(arguments) - 1):
            option = arguments[index].upper()
            if option == b"EXAT" or option == b"PXAT":
                moment = self.later_moment(arguments[index + 1], option == b"EXAT")
                if moment is None:
                    return None
                arguments[index] = b"PXAT"
                arguments[index + 1] = moment
                for key in arguments[2:first:2]:
                    self.note_late_key(self.db, key)
                return arguments
        return None
