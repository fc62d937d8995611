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
    from engine.codec.block_writer import BlockWriter
    from engine.codec.command_reader import KEPT_ARGUMENTS
    from engine.codec.created_keys import record_created_keys

from engine.codec.command_text import command_at

MAX_LATE_KEYS = 200_000
SENTINEL_CHANNEL = b"__sentinel__:hello"
# Where a command that makes a key of others names it.
RESULT_AT = dict.fromkeys(
    b"SUNIONSTORE SINTERSTORE SDIFFSTORE ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE GEOSEARCHSTORE PFMERGE".split(),
    1,
) | dict.fromkeys(b"SMOVE RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE BITOP".split(), 2)
MAKERS = {}  # the same names by their length, and those that have an option for it
for maker in (*RESULT_AT, b"SORT", b"GEORADIUS", b"GEORADIUSBYMEMBER"):
    MAKERS.setdefault(len(maker), []).append(maker)


def swapped_places(places, renumbered):
    return {(renumbered.get(db, db), key) for db, key in places}


@cython.cclass
class StreamTranscoder(BlockWriter):
    """Feed chunks, take blocks until `next_block` returns None, feed again.

    getack_offset: offset after the newest `REPLCONF GETACK`, -1 before the first. flushes: FLUSHALL and
    FLUSHDB seen. pings, messages_dropped (Sentinel's announcements), rewritten: counts. pause_at: take no command
    behind this offset; -1 for none.

    margin_ms, horizon_ms: expiries before the moment `horizon_ms` are applied so much later (0: as they are).
    late_keys, late_hashes: (db, key) whose expiry, or that of whose fields, is to be put right: it has a margin, or
    its relative time came in bytes fed as late, so that the moment it counts from is not known. Where such keys
    move is followed; with is_settling, where any key moves. late_keys_lost, late_hashes_lost: how many found no room;
    the latter are in `noted` all the same.
    verifies_keys: with a margin, a key may have expired on the target before its renewal came, so one that is
    renewed, or whose fields are, is noted in late_hashes, to be fetched as a whole; and so is what is made of others.
    noted: what was added to late_keys (False) and late_hashes (True) since it was last emptied: (is_whole, db, key).
    swaps: SWAPDBs seen; swapped: their databases, of those since it was last emptied.
    recorder: a KeyRecorder for the keys that the commands create; None records nothing.
    holds_flushes: FLUSHALL and FLUSHDB are the caller's to do: nothing behind one is taken while flush_is_due is set.
    flushed_db: the source's database that the newest one was about, -1: all.
    """

    def __init__(self, plan) -> None:
        self.plan = plan
        BlockWriter.__init__(self, plan)
        self.margin_ms = self.horizon_ms = 0
        self.has_margin = False
        self.absolute_expiry = plan.absolute_expiry
        self.clock_offset_ms = plan.clock_offset_ms
        self.in_transaction = False
        self.received_ms = 0
        self.getack_offset = -1
        self.flushes = 0
        self.pings = self.messages_dropped = self.rewritten = 0
        self.is_late = False
        self.late_keys = set()
        self.late_hashes = set()
        self.taken_keys = set()
        self.taken_hashes = set()
        self.taken_swapped = False
        self.has_late_keys = self.is_settling = self.verifies_keys = False
        self.noted = []
        self.late_keys_lost = self.late_hashes_lost = 0
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
    def verifies(self):
        """Whether keys that are renewed now are noted as a whole."""
        return self.verifies_keys and self.margin_ms > 0

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
            StreamOutOfStep: the bytes are not a stream of commands.
        """
        run: cython.Py_ssize_t = self.command
        found: cython.int
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
            if found == 2 or self.is_special():  # what came before it first
                if run < self.command:
                    self.out.put(self.ptr, run, self.command - run)
                self.offset = self.base_offset + self.pos
                self.take_special()
                run = self.pos
            elif not self.is_open:
                self.open_block()
                self.block_commands += 1
                self.block_replies += 1
            else:
                self.block_commands += 1
                self.block_replies += 1
            self.command = self.pos
            self.offset = self.base_offset + self.pos
            if not self.in_transaction and self.out.pos + self.pos - run >= self.block_bytes:
                break
        if self.records_keys:
            self.key_recorder.drain()  # before the block can leave
        if run < self.command:
            self.out.put(self.ptr, run, self.command - run)
        if self.is_open and not self.in_transaction and (flush or self.out.pos >= self.block_bytes):
            return self.close_block()
        return None

    def is_special(self):
        """Whether the command at hand needs more than copying."""
        count: cython.Py_ssize_t = self.argument_bytes[0]
        has_margin: cython.bint = self.margin_ms > 0
        verifies: cython.bint = self.verifies_keys and has_margin
        follows: cython.bint = self.has_late_keys or self.is_settling or verifies
        if verifies and self.makes_of_others(count):
            return True
        if count == 3:
            return self.absolute_expiry and self.is_named(b"SET") and self.has_expiry_option(3)
        if count == 4:
            if self.is_named(b"PING") or self.is_named(b"EXEC"):
                return True
            return follows and (self.is_named(b"COPY") or self.is_named(b"MOVE"))
        if count == 5:
            if self.is_named(b"MULTI"):
                return True
            if not self.absolute_expiry:
                return False
            if self.is_named(b"SETEX"):
                return True
            return self.is_named(b"GETEX") and self.has_expiry_option(2)
        if count == 6:
            if self.is_named(b"SELECT") or self.is_named(b"SWAPDB"):
                return True
            if follows and self.is_named(b"RENAME"):
                return True
            if has_margin and (self.is_named(b"HSETEX") or self.is_named(b"MSETEX")):
                return True
            return self.absolute_expiry and (self.is_named(b"PSETEX") or self.is_named(b"EXPIRE"))
        if count == 7:
            if self.is_named(b"PUBLISH") or self.is_named(b"FLUSHDB"):
                return True
            if verifies and self.is_named(b"PERSIST"):
                return True
            return self.absolute_expiry and (self.is_named(b"PEXPIRE") or self.is_named(b"RESTORE"))
        if count == 8:
            if follows and self.is_named(b"RENAMENX"):
                return True
            if has_margin and self.is_named(b"EXPIREAT"):
                return True
            if verifies and self.is_named(b"HPERSIST"):
                return True
            return self.is_named(b"REPLCONF") or self.is_named(b"FLUSHALL")
        if count == 9:
            return has_margin and (self.is_named(b"PEXPIREAT") or self.is_named(b"HEXPIREAT"))
        if count == 10:
            return has_margin and self.is_named(b"HPEXPIREAT")
        return False

    def makes_of_others(self, count):
        """Whether the command makes a key of other keys, which may be gone from the target."""
        for name in MAKERS.get(count, ()):
            if self.is_named(name):
                return True
        return False

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

    def has_expiry_option(self, first):
        """Whether EX or PX (with a margin also EXAT, PXAT) stands among the options from `first` on, with a value."""
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
                    return True
        return False

    def add_late_keys(self, keys, hashes):
        """Owe these a correction as well: a stay at the target before this one could not make it."""
        self.late_keys.update(keys)
        self.late_hashes.update(hashes)
        if self.late_keys or self.late_hashes:
            self.has_late_keys = True

    def take_late(self, keys_limit, hashes_limit):
        """Take some of what is owed: (keys, hashes). Where they move is followed until `release_late_keys`."""
        keys = []
        hashes = []
        while self.late_keys and len(keys) < keys_limit:
            keys.append(self.late_keys.pop())
        while self.late_hashes and len(hashes) < hashes_limit:
            hashes.append(self.late_hashes.pop())
        self.taken_keys = set(keys)
        self.taken_hashes = set(hashes)
        return keys, hashes

    def release_late_keys(self):
        """Those taken are corrected, where they stood when they were taken: one that SWAPDB moved since is owed again."""
        if self.taken_swapped:
            self.late_keys |= self.taken_keys
            self.late_hashes |= self.taken_hashes
            self.taken_swapped = False
        self.taken_keys = set()
        self.taken_hashes = set()
        self.has_late_keys = bool(self.late_keys) or bool(self.late_hashes)

    def take_special(self):
        """Act on the special command [command, pos); `offset` stands behind it already."""
        if self.arguments_done == 0:
            return
        name = self.argument(0).upper()
        if name == b"PING":
            self.pings += 1
        elif name == b"SELECT":
            self.take_select()
        elif name == b"MULTI":
            self.in_transaction = True
            if not self.has_checkpoint:
                self.copy_command()
        elif name == b"EXEC":
            self.in_transaction = False
            if not self.has_checkpoint:
                self.copy_command()
        elif name == b"REPLCONF":
            if self.argument(1).upper() == b"GETACK":
                self.getack_offset = self.offset
        elif name == b"PUBLISH":
            if self.argument(1) == SENTINEL_CHANNEL:
                self.messages_dropped += 1  # would make the source's Sentinels adopt the target
            else:
                self.copy_command()
        elif name == b"FLUSHALL" or name == b"FLUSHDB":
            self.flushes += 1
            self.flush_is_due = self.holds_flushes
            self.flushed_db = -1 if name == b"FLUSHALL" else self.source_db
            if not self.holds_flushes:
                self.copy_command()
        elif name == b"SWAPDB":
            self.take_swapdb()
        elif name == b"RENAME" or name == b"RENAMENX" or name == b"COPY" or name == b"MOVE":
            self.follow_late_key(name)
            self.copy_command()
        elif name == b"PERSIST" or name == b"HPERSIST":
            self.note_late_hash(self.db, self.argument(1))
            self.copy_command()
        elif name == b"HPEXPIREAT" or name == b"HEXPIREAT" or name == b"HSETEX":
            self.take_field_expiry(name)
        elif name in RESULT_AT or name == b"SORT" or name[:9] == b"GEORADIUS":
            self.note_result(name)
            self.copy_command()
        else:
            self.take_expiry(name)

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
        self.swaps += 1
        first, second = self.argument(1), self.argument(2)
        if first.isdigit() and second.isdigit():
            self.swapped.append((int(first), int(second)))
        if self.has_late_keys and first.isdigit() and second.isdigit():
            renumbered = {int(first): int(second), int(second): int(first)}
            self.late_keys = swapped_places(self.late_keys, renumbered)
            self.late_hashes = swapped_places(self.late_hashes, renumbered)
            self.taken_keys = swapped_places(self.taken_keys, renumbered)
            self.taken_hashes = swapped_places(self.taken_hashes, renumbered)
            self.taken_swapped = True
        swapped = {self.argument(1), self.argument(2)}
        if self.checkpoint_key and b"0" in swapped and len(swapped) == 2:
            other = (swapped - {b"0"}).pop()
            self.put_command([b"SELECT", other])
            self.put_command([b"DEL", self.checkpoint_key])
            self.put_command([b"SELECT", b"%d" % self.db])

    def take_expiry(self, name):
        """A command that sets a key's expiry: with the moment it ends, and with the margin if there is one.

        SETEX, PSETEX, EXPIRE, PEXPIRE, SET … EX|PX, GETEX … EX|PX, RESTORE hold durations; since 7.0 sources send
        moments only (expire.c, expireGenericCommand; t_string.c, setGenericCommand; cluster.c, restoreCommand).
        Anything not exactly of these forms is copied.
        """
        count = self.arguments_done
        rewritten = None
        self.has_margin = False
        if name == b"MSETEX":
            rewritten = self.with_late_msetex()
        elif count > KEPT_ARGUMENTS:
            pass
        elif (name == b"SETEX" or name == b"PSETEX") and count == 4:
            moment = self.moment_after(self.argument(2), name == b"SETEX")
            if moment is not None:
                rewritten = [b"SET", self.argument(1), self.argument(3), b"PXAT", moment]
        elif (name == b"EXPIRE" or name == b"PEXPIRE") and count == 3:
            moment = self.moment_after(self.argument(2), name == b"EXPIRE")
            if moment is not None:
                rewritten = [b"PEXPIREAT", self.argument(1), moment]
        elif (name == b"EXPIREAT" or name == b"PEXPIREAT") and count >= 3:
            # NX, XX, GT, LT have done their work at the source, which replicates what has had an effect.
            moment = self.later_moment(self.argument(2), name == b"EXPIREAT")
            if moment is not None:
                rewritten = [b"PEXPIREAT", self.argument(1), moment]
        elif name == b"RESTORE":
            rewritten = self.with_absolute_ttl()
        elif name == b"SET" or name == b"GETEX":
            rewritten = self.with_moment(3 if name == b"SET" else 2)
        if self.verifies and name != b"SET" and name[-5:] != b"SETEX" and name != b"RESTORE":
            self.note_late_hash(self.db, self.argument(1))
        if rewritten is None:
            self.copy_command()
        else:
            self.rewritten += 1
            self.put_command(rewritten)
            self.block_commands += 1
            if (self.is_late or self.has_margin) and name != b"MSETEX":
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

    def note_late_key(self, db, key):
        self.note_late(False, db, key)

    def note_late_hash(self, db, key):
        self.note_late(True, db, key)

    def note_late(self, is_whole, db, key):
        late = self.late_hashes if is_whole else self.late_keys
        place = (db, key)
        if place in late:
            return
        if len(late) < MAX_LATE_KEYS:
            late.add(place)
            self.noted.append((is_whole, db, key))
            self.has_late_keys = True
        elif is_whole:
            self.late_hashes_lost += 1
            self.noted.append((is_whole, db, key))
        else:
            self.late_keys_lost += 1

    def follow_late_key(self, name):
        """A key takes its TTL along: RENAME, RENAMENX, COPY … [DB n], MOVE key n."""
        db = self.db
        origin = self.argument(1)
        key = self.argument(2)
        if name == b"MOVE":
            db = int(key) if key.isdigit() else db
            key = origin
        elif name == b"COPY" and self.argument(3).upper() == b"DB" and self.argument(4).isdigit():
            db = int(self.argument(4))
        self.note_late_key(db, key)
        place = (self.db, origin)
        if (
            self.is_settling
            or self.verifies
            or place in self.late_hashes
            or place in self.taken_hashes
        ):
            self.note_late_hash(db, key)

    def with_moment(self, first_option):
        """The command's arguments with EX, PX (EXAT, PXAT) replaced by PXAT; None if nothing is to be changed."""
        count = self.arguments_done
        for index in range(first_option, count - 1):
            option = self.argument(index).upper()
            if option == b"EX" or option == b"PX":
                moment = self.moment_after(self.argument(index + 1), option == b"EX")
            elif option == b"EXAT" or option == b"PXAT":
                moment = self.later_moment(self.argument(index + 1), option == b"EXAT")
            else:
                continue
            if moment is None:
                return None
            arguments = [self.argument(i) for i in range(count)]
            arguments[index] = b"PXAT"
            arguments[index + 1] = moment
            return arguments
        return None

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

    def moment_after(self, text, is_seconds):
        """Text of the moment so long after the receipt, in ms of the source's clock; None if `text` is no number."""
        try:
            duration = int(text)
        except ValueError:
            return None
        if is_seconds:
            duration *= 1000
        moment = max(self.received_ms + self.clock_offset_ms + duration, 1)
        return b"%d" % (moment + self.margin_of(moment))

    def later_moment(self, text, is_seconds):
        """Text of the moment with its margin, ms; None if it is to stay as it is."""
        try:
            moment = int(text)
        except ValueError:
            return None
        if is_seconds:
            moment *= 1000
        margin = self.margin_of(moment)
        return b"%d" % (moment + margin) if margin else None

    def margin_of(self, moment):
        """The margin for an expiry at `moment`, ms; notes that there is one."""
        if self.margin_ms == 0 or moment >= self.horizon_ms:
            return 0
        self.has_margin = True
        if self.margin_since_ms == 0:
            self.margin_since_ms = max(self.received_ms + self.clock_offset_ms, 1)
        return self.margin_ms
