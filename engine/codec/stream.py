"""Replication stream bytes in, blocks of target commands out, each a transaction with its checkpoint.

A command is copied, not re-encoded; runs of ordinary commands are copied in one piece. The exceptions are
few: PING and REPLCONF only move the offset, MULTI and EXEC are merged into the block's own transaction, and
relative times become absolute. A block never ends inside a transaction of the source.

    MULTI · [SELECT db] · commands … · [SELECT 0] · HSET checkpoint … offset n db d · EXEC

Source of the stream's shape: replication.c, replicationFeedSlaves; server.c, propagatePendingCommands.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS, CommandReader
    from engine.codec.created_keys import record_created_keys
    from engine.codec.out_buffer import OutBuffer

from engine.codec.block import Block

MAX_LATE_KEYS = 200_000
SENTINEL_CHANNEL = b"__sentinel__:hello"


@cython.cclass
class StreamTranscoder(CommandReader):
    """Feed chunks, take blocks until `next_block` returns None, feed again.

    offset: the stream offset after the last command taken. db: database selected at the source there.
    getack_offset: offset after the newest `REPLCONF GETACK`, -1 before the first. flushes: FLUSHALL and
    FLUSHDB seen. pings, messages_dropped (Sentinel's announcements), rewritten: counts. late_keys: (db, key)
    whose relative time came in bytes fed as late, so that the moment it counts from is not known exactly,
    and where such keys may have moved since. pause_at: take no command behind this offset; -1 for none.
    recorder: a KeyRecorder for the keys that the commands create; None records nothing.
    """

    def __init__(self, plan) -> None:
        self.plan = plan
        CommandReader.__init__(self, plan.offset)
        self.offset = plan.offset
        self.replid = plan.replid.encode()
        self.epoch = plan.epoch
        self.checkpoint_key = plan.checkpoint_key
        self.has_checkpoint = bool(plan.checkpoint_key)
        self.absolute_expiry = plan.absolute_expiry
        self.clock_offset_ms = plan.clock_offset_ms
        self.block_bytes = plan.block_bytes
        self.out = OutBuffer(plan.block_bytes + 64 * 1024)
        self.db = plan.db
        self.block_db = 0
        self.is_open = False
        self.in_transaction = False
        self.block_replies = 0
        self.block_commands = 0
        self.received_ms = 0
        self.getack_offset = -1
        self.flushes = 0
        self.pings = 0
        self.messages_dropped = 0
        self.rewritten = 0
        self.is_late = False
        self.late_keys = set()
        self.has_late_keys = False
        self.late_keys_lost = 0
        self.pause_at = -1
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
            SourceProtocolError: the bytes are not a stream of commands.
        """
        run: cython.Py_ssize_t = self.command
        found: cython.int
        while self.pause_at < 0 or self.offset < self.pause_at:
            found = self.read_command()
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
        if count == 3:
            return self.absolute_expiry and self.is_named(b"SET") and self.has_relative_option(3)
        if count == 4:
            if self.is_named(b"PING") or self.is_named(b"EXEC"):
                return True
            return self.has_late_keys and (self.is_named(b"COPY") or self.is_named(b"MOVE"))
        if count == 5:
            if self.is_named(b"MULTI"):
                return True
            if not self.absolute_expiry:
                return False
            if self.is_named(b"SETEX"):
                return True
            return self.is_named(b"GETEX") and self.has_relative_option(2)
        if count == 6:
            if self.is_named(b"SELECT") or self.is_named(b"SWAPDB"):
                return True
            if self.has_late_keys and self.is_named(b"RENAME"):
                return True
            return self.absolute_expiry and (self.is_named(b"PSETEX") or self.is_named(b"EXPIRE"))
        if count == 7:
            if self.is_named(b"PUBLISH") or self.is_named(b"FLUSHDB"):
                return True
            return self.absolute_expiry and (self.is_named(b"PEXPIRE") or self.is_named(b"RESTORE"))
        if count == 8:
            if self.has_late_keys and self.is_named(b"RENAMENX"):
                return True
            return self.is_named(b"REPLCONF") or self.is_named(b"FLUSHALL")
        return False

    def has_relative_option(self, first):
        """Whether EX or PX stands among the options from argument `first` on, with a value behind it."""
        i: cython.Py_ssize_t
        start: cython.Py_ssize_t
        last: cython.Py_ssize_t = min(self.arguments_done, KEPT_ARGUMENTS) - 1
        for i in range(first, last):
            if self.argument_bytes[i] == 2:
                start = self.argument_start[i]
                if (self.ptr[start + 1] & 0xDF) == 88 and (
                    (self.ptr[start] & 0xDF) == 69 or (self.ptr[start] & 0xDF) == 80
                ):
                    return True
        return False

    def add_late_keys(self, keys):
        """Owe the keys, (db, key) each, a correction: a line before this one could not make it."""
        self.late_keys.update(keys)
        self.has_late_keys = bool(self.late_keys)

    def take_late_keys(self, limit):
        """Take at most `limit` of the late keys; where they move is followed until `release_late_keys`."""
        taken = []
        while self.late_keys and len(taken) < limit:
            taken.append(self.late_keys.pop())
        return taken

    def release_late_keys(self):
        """Those taken are corrected."""
        self.has_late_keys = bool(self.late_keys)

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
            self.copy_command()
        elif name == b"SWAPDB":
            self.take_swapdb()
        elif name == b"RENAME" or name == b"RENAMENX" or name == b"COPY" or name == b"MOVE":
            self.follow_late_key(name)
            self.copy_command()
        else:
            self.take_relative_time(name)

    def copy_command(self):
        if not self.is_open:
            self.open_block()
        self.out.put(self.ptr, self.command, self.pos - self.command)
        self.block_commands += 1
        self.block_replies += 1

    def put_command(self, arguments):
        """Write a command of our own making in place of the source's."""
        if not self.is_open:
            self.open_block()
        self.out.put_header(42, len(arguments))
        for text in arguments:
            self.out.put_bulk_bytes(text)
        self.block_replies += 1

    def take_select(self):
        text = self.argument(1)
        if not text.isdigit() or len(text) > 9:
            raise self.out_of_step("SELECT without a database number")
        db = int(text)
        self.db = db
        if self.is_open and self.block_db != db:
            self.put_command([b"SELECT", b"%d" % db])
            self.block_db = db

    def take_swapdb(self):
        """Pass it on; a checkpoint that was swapped out of database 0 with the data is removed there."""
        self.copy_command()
        first, second = self.argument(1), self.argument(2)
        if self.has_late_keys and first.isdigit() and second.isdigit():
            renumbered = {int(first): int(second), int(second): int(first)}
            self.late_keys = {(renumbered.get(db, db), key) for db, key in self.late_keys}
        swapped = {self.argument(1), self.argument(2)}
        if self.has_checkpoint and b"0" in swapped and len(swapped) == 2:
            other = (swapped - {b"0"}).pop()
            self.put_command([b"SELECT", other])
            self.put_command([b"DEL", self.checkpoint_key])
            self.put_command([b"SELECT", b"%d" % self.db])

    def take_relative_time(self, name):
        """SETEX, PSETEX, EXPIRE, PEXPIRE, SET … EX|PX, GETEX … EX|PX, RESTORE with the moment they end.

        Anything not exactly of these forms is copied: SET … EXAT needs no change, and since 7.0 sources send
        absolute times only (expire.c, expireGenericCommand; t_string.c, setGenericCommand; cluster.c,
        restoreCommand).
        """
        count = self.arguments_done
        rewritten = None
        if count > KEPT_ARGUMENTS:
            rewritten = None
        elif (name == b"SETEX" or name == b"PSETEX") and count == 4:
            moment = self.moment_after(self.argument(2), name == b"SETEX")
            if moment is not None:
                rewritten = [b"SET", self.argument(1), self.argument(3), b"PXAT", moment]
        elif (name == b"EXPIRE" or name == b"PEXPIRE") and count == 3:
            moment = self.moment_after(self.argument(2), name == b"EXPIRE")
            if moment is not None:
                rewritten = [b"PEXPIREAT", self.argument(1), moment]
        elif name == b"RESTORE":
            rewritten = self.with_absolute_ttl()
        elif name == b"SET" or name == b"GETEX":
            rewritten = self.with_moment(3 if name == b"SET" else 2)
        if rewritten is None:
            self.copy_command()
        else:
            self.rewritten += 1
            self.put_command(rewritten)
            self.block_commands += 1
            if self.is_late:
                self.note_late_key(self.db, self.argument(1))

    def note_late_key(self, db, key):
        if len(self.late_keys) < MAX_LATE_KEYS:
            self.late_keys.add((db, key))
            self.has_late_keys = True
        else:
            self.late_keys_lost += 1

    def follow_late_key(self, name):
        """A key takes its TTL along: RENAME, RENAMENX, COPY … [DB n], MOVE key n."""
        db = self.db
        key = self.argument(2)
        if name == b"MOVE":
            db = int(key) if key.isdigit() else db
            key = self.argument(1)
        elif name == b"COPY" and self.argument(3).upper() == b"DB" and self.argument(4).isdigit():
            db = int(self.argument(4))
        self.note_late_key(db, key)

    def with_moment(self, first_option):
        """The command's arguments with EX or PX replaced by PXAT; None if neither is among them."""
        count = self.arguments_done
        for index in range(first_option, count - 1):
            option = self.argument(index).upper()
            if option == b"EX" or option == b"PX":
                moment = self.moment_after(self.argument(index + 1), option == b"EX")
                if moment is None:
                    return None
                arguments = [self.argument(i) for i in range(count)]
                arguments[index] = b"PXAT"
                arguments[index + 1] = moment
                return arguments
        return None

    def with_absolute_ttl(self):
        """The arguments of a RESTORE key ttl payload … with ABSTTL; None where the ttl is 0 or absolute."""
        count = self.arguments_done
        if count < 4 or count >= KEPT_ARGUMENTS or self.argument(2) == b"0":
            return None
        if b"ABSTTL" in [self.argument(i).upper() for i in range(4, count)]:
            return None
        moment = self.moment_after(self.argument(2), False)
        if moment is None:
            return None
        arguments = [self.argument(i) for i in range(count)]
        arguments[2] = moment
        arguments.append(b"ABSTTL")
        return arguments

    def moment_after(self, text, is_seconds):
        """Text of the absolute time, in ms of the target's clock; None if `text` is no number."""
        try:
            duration = int(text)
        except ValueError:
            return None
        if is_seconds:
            duration *= 1000
        return b"%d" % max(self.received_ms + self.clock_offset_ms + duration, 1)

    def open_block(self):
        self.is_open = True
        self.block_db = 0
        self.block_replies = 0
        self.block_commands = 0
        if self.has_checkpoint:
            self.out.put_bytes(b"*1\r\n$5\r\nMULTI\r\n")
        if self.db != 0:
            self.out.put_bytes(b"*2\r\n$6\r\nSELECT\r\n")
            self.out.put_bulk_number(self.db)
            self.block_replies += 1
            self.block_db = self.db

    def close_block(self):
        out = self.out
        if self.block_db != 0:
            out.put_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
            self.block_replies += 1
        if self.has_checkpoint:
            out.put_bytes(b"*14\r\n$4\r\nHSET\r\n")
            out.put_bulk_bytes(self.checkpoint_key)
            out.put_bytes(
                b"$6\r\nformat\r\n$1\r\n1\r\n$5\r\nphase\r\n$6\r\nstream\r\n$5\r\nepoch\r\n"
            )
            out.put_bulk_number(self.epoch)
            out.put_bytes(b"$6\r\nreplid\r\n")
            out.put_bulk_bytes(self.replid)
            out.put_bytes(b"$6\r\noffset\r\n")
            out.put_bulk_number(self.offset)
            out.put_bytes(b"$2\r\ndb\r\n")
            out.put_bulk_number(self.db)
            out.put_bytes(b"*1\r\n$4\r\nEXEC\r\n")
            self.block_replies += 3  # MULTI, HSET, EXEC
        block = Block(
            data=out.take(),
            replies=self.block_replies,
            commands=self.block_commands,
            offset=self.offset,
            db=self.db,
            is_transaction=self.has_checkpoint,
        )
        self.is_open = False
        return block
