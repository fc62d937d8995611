"""Plain commands in, batches for a cluster out: grouped by slot, each group a transaction with its checkpoint.

    MULTI · commands of one slot … · HSET checkpoint-of-the-slot o offset · EXEC

Each shard has a queue; a slot's commands are all in one of them. A batch is all of a queue, with one group for each slot, and a
shard gets the next one only when it has answered this one, so no group can be applied behind one that was refused
(engine/replay/shard_lanes.py). A slot that waits has its commands in the queue HELD. Within a slot the order is that
of the stream.

Most commands come with their slot (slot_index.py); the rest is read here.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS, CommandReader
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.slot_index import INDEX_SHIFT
    from engine.codec.slot_queue import (
        AHEAD,
        COMMANDS,
        PLACE,
        SIZE,
        SIZE_BITS,
        WRITTEN,
        SlotQueue,
        prefetch,
    )
    from engine.codec.slot_rules import RULE_FIRST, RULE_LAST, RULE_STEP, find_rule
    from engine.codec.slots import slot_of

import sys
from array import array

from engine.codec.slot_batch import SlotBatch
from engine.codec.slots import slot_tags

if not cython.compiled:
    SLOTS = 16384
    PLACE_BITS = 32
    HELD = 0  # the queue of slots that wait; the shards' numbers begin behind it

KEY_PREFIX = b"redis-ferry:slot:{"
HELD_QUEUE = HELD
MULTI = b"*1\r\n$5\r\nMULTI\r\n"
EXEC = b"*1\r\n$4\r\nEXEC\r\n"


@cython.cclass
class SlotRouter(CommandReader):
    """Add plain commands, take batches.

    suffix: ends the names of the slots' checkpoints. is_transaction: each group is one, with its checkpoint; else
    the groups are the commands alone. margin_since_ms: goes into the checkpoints where it is not 0.
    tells_db: so does source_db, the database that the source has selected at the offset.
    skip: for each slot the offset that the target has; what stands before it is left out. None: nothing is.
    skipped: commands left out so. split_transactions: of the source, those over several slots.
    event: the command that is not of one slot by the table, or has no key (arguments); None: there is none.
    tainted: slots whose commands all become events (bytes of 16384, 1: so); None: there are none.
    """

    def __init__(self, suffix, is_transaction) -> None:
        CommandReader.__init__(self, 0)
        self.queues = [SlotQueue()]
        self.out = OutBuffer(64)
        self.tags = slot_tags()
        letters = array("i", self.tags)
        if sys.byteorder == "big":
            letters.byteswap()
        # SIZE, COMMANDS, WRITTEN, PLACE of each slot, side by side because they are wanted together. All are held at first.
        records = array("q", [0, 0, -1, 0]) * SLOTS
        records[PLACE::4] = array("q", [it & 0xFFFFFFFF for it in letters])
        self.records = records
        self.suffix = suffix
        self.key_bytes = len(KEY_PREFIX) + 5 + len(suffix)
        self.is_transaction = is_transaction
        self.margin_since_ms = 0
        self.tells_db = False
        self.source_db = 0
        self.skip_table = None
        self.has_skip = False
        self.skipped = 0
        self.split_transactions = 0
        self.transaction_slot = -1
        self.in_transaction = False
        self.is_split = False
        self.event = None
        self.tainted = None
        self.block = b""
        self.block_at = 0
        self.index = array("q")
        self.index_entries = self.index_at = 0

    @property
    def skip(self):
        return self.skip_table

    @skip.setter
    def skip(self, table):
        self.skip_table = table
        self.has_skip = table is not None

    @property
    def pending_bytes(self):
        """Bytes of commands that no batch has taken, without those of slots that wait."""
        return sum([self.bytes_of(number) for number in range(1, len(self.queues))])

    def bytes_of(self, number):
        """Bytes in one queue."""
        queue: SlotQueue = self.queues[number]
        return queue.size

    def has_any(self, number):
        """Whether a queue has commands."""
        queue: SlotQueue = self.queues[number]
        return queue.entries > 0

    def add_queue(self):
        """One more shard; its number."""
        self.queues.append(SlotQueue())
        return len(self.queues) - 1

    def home_of(self, slot):
        """The queue that a slot's commands go to."""
        return cython.cast(cython.int, self.records[4 * slot + PLACE] >> PLACE_BITS)

    def settle(self, table, is_busy):
        """Give each slot to its queue in `table`; True when all are there.

        is_busy: by number, queues whose slots stay for now (bytes, 1: so). Slots that are held stay.
        """
        wanted: cython.int[::1] = table
        slot: cython.int
        home: cython.int
        number: cython.int
        is_done = True
        for slot in range(SLOTS):
            home = self.home_of(slot)
            if home == HELD or home == wanted[slot]:
                continue
            if is_busy[home]:
                is_done = False
            else:
                self.set_home(slot, wanted[slot])
        for number in range(1, len(self.queues)):
            self.give_away(number)
        return is_done

    def place(self, table):
        """Give every slot to its queue in `table`, also those that are held."""
        slot: cython.int
        number: cython.int
        wanted: cython.int[::1] = table
        for slot in range(SLOTS):
            self.set_home(slot, wanted[slot])
        for number in range(len(self.queues)):
            self.give_away(number)

    def move(self, slot, number):
        """Give a slot and its commands to another queue."""
        home: cython.int = self.home_of(slot)
        self.set_home(slot, number)
        self.give_away(home)
        return 0

    def set_home(self, slot, number):
        """What comes for a slot from now on goes to another queue; `give_away` brings what is in the old one."""
        at: cython.Py_ssize_t = 4 * slot
        old: SlotQueue = self.queues[self.home_of(slot)]
        new: SlotQueue = self.queues[number]
        if old is not new:
            old.members = new.members = None
            self.records[at + PLACE] = (cython.cast(cython.longlong, number) << PLACE_BITS) | (
                self.records[at + PLACE] & 0xFFFFFFFF
            )
            if self.records[at + COMMANDS] > 0:
                self.records[at + SIZE] = self.records[at + COMMANDS] = 0
                old.has_strangers = True
        return 0

    def give_away(self, number):
        """Bring commands of slots that have another home there."""
        queue: SlotQueue = self.queues[number]
        entry: cython.Py_ssize_t
        slot: cython.int
        if not queue.has_strangers:
            return 0
        queue.has_strangers = False
        for entry in range(queue.entries):
            slot = queue.slot_at(entry)
            if slot >= 0 and self.home_of(slot) != number:
                self.put(slot, queue.command_at(entry))
                queue.give_away(entry)
        return 0

    def members_of(self, number):
        """The slots of a queue (array)."""
        queue: SlotQueue = self.queues[number]
        slot: cython.int
        count: cython.Py_ssize_t = 0
        if queue.members is None:
            members = array("i", [0]) * SLOTS
            found: cython.int[::1] = members
            for slot in range(SLOTS):
                if self.home_of(slot) == number:
                    found[count] = slot
                    count += 1
            queue.members = members[:count]
        return queue.members

    def slot_data(self, slot):
        """The commands of a slot that no batch has taken."""
        queue: SlotQueue = self.queues[self.home_of(slot)]
        return b"".join(
            [
                queue.command_at(entry)
                for entry in range(queue.entries)
                if queue.slot_at(entry) == slot
            ]
        )

    def compact(self, number):
        """Let go of what was moved away from a queue."""
        old: SlotQueue = self.queues[number]
        fresh: SlotQueue = SlotQueue()
        entry: cython.Py_ssize_t
        slot: cython.int
        self.queues[number] = fresh
        for entry in range(old.entries):
            slot = old.slot_at(entry)
            if slot >= 0:
                self.records[4 * slot + SIZE] = self.records[4 * slot + COMMANDS] = 0
        for entry in range(old.entries):
            slot = old.slot_at(entry)
            if slot >= 0:
                self.put(slot, old.command_at(entry))

    def checkpoint_key(self, slot):
        """The key of a slot's checkpoint."""
        return KEY_PREFIX + self.tags[4 * slot : 4 * slot + 4] + b"}" + self.suffix

    def add(self, data, index):
        """Take whole commands, to be gone on with by `run`. index: their slots (slot_index.py); None: they are not known."""
        if index is None:
            self.add_bytes(data)
            return
        self.block = data
        self.block_at = 0
        self.index = index
        self.index_entries = len(index)
        self.index_at = 0

    def run(self, offset):
        """Take commands up to the end of what was added, or to one that is an `event`: then True.

        offset: the stream's behind what was added; -1: commands of ours, which are never skipped.
        """
        while True:
            if self.read(offset):
                return True
            if self.index_at == self.index_entries:
                self.block = b""
                return False
            self.take_indexed(offset)

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def take_indexed(self, offset):
        """Take commands whose slots are known, up to the first one that has to be read."""
        entry: cython.Py_ssize_t = self.index_at
        entries: cython.Py_ssize_t = self.index_entries
        index: cython.longlong[::1] = self.index
        records: cython.longlong[::1] = self.records
        is_plain: cython.bint = not self.in_transaction and not (self.has_skip and offset >= 0)
        owner: bytes = self.block
        queue: SlotQueue
        home: cython.Py_ssize_t
        place: cython.Py_ssize_t
        count: cython.longlong
        record: cython.Py_ssize_t
        number: cython.longlong
        end: cython.longlong
        slot: cython.int
        at: cython.longlong = self.block_at
        if cython.compiled:
            data: cython.p_uchar = owner
        else:
            data = owner
        while entry < entries:
            if cython.compiled and entry + AHEAD < entries:
                prefetch(
                    cython.address(records[4 * max(index[entry + AHEAD] >> INDEX_SHIFT, 1) - 4])
                )
            number = index[entry]
            end = number & ((cython.cast(cython.longlong, 1) << INDEX_SHIFT) - 1)
            slot = cython.cast(cython.int, number >> INDEX_SHIFT) - 1
            entry += 1
            if slot < 0 or (self.tainted is not None and self.tainted[slot] != 0):
                self.add_bytes(owner[at:end])
                at = end
                break
            record = 4 * slot
            home = records[record + PLACE] >> PLACE_BITS
            if home == HELD:
                if is_plain or self.is_to_take(slot, offset):
                    self.append(slot, owner, data, at, end - at)
            elif is_plain or self.is_to_take(slot, offset):
                # As `append` of ours and the queue's, without the calls: this is the way of most commands.
                queue = cython.cast(SlotQueue, self.queues[home])
                place = queue.entries
                count = end - at
                if place == queue.capacity:
                    queue.grow()
                if owner is not queue.last_owner:
                    queue.take_over(owner)
                if cython.compiled:
                    queue.starts[place] = cython.cast(cython.longlong, data + at)
                else:
                    queue.starts[place] = at
                    queue.origins.append(owner)
                queue.numbers[place] = (cython.cast(cython.longlong, slot + 1) << SIZE_BITS) | count
                queue.entries = place + 1
                queue.size += count
                if records[record + COMMANDS] == 0:
                    queue.touched[queue.touched_slots] = slot
                    queue.touched_slots += 1
                records[record + SIZE] += count
                records[record + COMMANDS] += 1
            at = end
        self.block_at = at
        self.index_at = entry
        return 0

    def read(self, offset):
        """The same for commands that stand in the reader's window."""
        rule: cython.Py_ssize_t
        slot: cython.int
        while self.read_command() == 1:
            rule = find_rule(self.ptr, self.argument_start[0], self.argument_bytes[0])
            slot = -1
            if rule >= 0:
                if RULE_FIRST[rule] == 0:
                    if self.take_keyless():
                        self.command = self.pos
                        continue
                elif RULE_FIRST[rule] < KEPT_ARGUMENTS and RULE_FIRST[rule] < self.arguments_done:
                    slot = self.slot_by(rule)
            if slot < 0 or (self.tainted is not None and self.tainted[slot] != 0):
                self.event = self.all_arguments()
                self.command = self.pos
                return True
            if self.is_to_take(slot, offset):
                self.put(slot, bytes(self.ptr[self.command : self.pos]))
            self.command = self.pos
        return False

    def take_keyless(self):
        """MULTI, EXEC and SELECT 0 are not for a cluster's node; True if it was one of them."""
        count: cython.Py_ssize_t = self.argument_bytes[0]
        if count == 5 and self.is_named(b"MULTI"):
            self.in_transaction = True
            self.transaction_slot = -1
            self.is_split = False
            return True
        if count == 4 and self.is_named(b"EXEC"):
            self.in_transaction = False
            if self.is_split:
                self.split_transactions += 1
            return True
        return count == 6 and self.is_named(b"SELECT") and self.argument(1) == b"0"

    def slot_by(self, rule):
        """The slot of all keys of the command at hand; -1 if they have several."""
        first: cython.longlong = RULE_FIRST[rule]
        last: cython.longlong = RULE_LAST[rule]
        step: cython.longlong = RULE_STEP[rule]
        index: cython.longlong
        slot: cython.int
        at: cython.Py_ssize_t
        size: cython.Py_ssize_t
        slot = slot_of(self.ptr, self.argument_start[first], self.argument_bytes[first])
        if last < 0:
            last += self.arguments_done
        if last == first:
            return slot
        if last >= self.arguments_done:
            return -1
        # Behind the arguments that the reader keeps.
        at = self.argument_start[first] + self.argument_bytes[first] + 2
        index = first + 1
        while index <= last:
            size = 0
            at += 1
            while self.ptr[at] != 13:
                size = size * 10 + self.ptr[at] - 48
                at += 1
            at += 2
            if (index - first) % step == 0 and slot_of(self.ptr, at, size) != slot:
                return -1
            at += size + 2
            index += 1
        return slot

    def is_to_take(self, slot, offset):
        """Whether the target may lack a command of the stream that is of one slot."""
        if self.in_transaction:
            if self.transaction_slot >= 0 and self.transaction_slot != slot:
                self.is_split = True
            self.transaction_slot = slot
        if self.has_skip and offset >= 0 and offset <= self.skip_table[slot]:
            self.skipped += 1
            return False
        return True

    def put(self, slot, command):
        """Put one encoded command into a slot's group."""
        if cython.compiled:
            pointer: cython.p_uchar = command
            self.append(slot, command, pointer, 0, len(command))
        else:
            self.append(slot, command, command, 0, len(command))

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def append(self, slot, owner, source, start, count):
        """The same; of a block that is kept as a whole as long as one of its commands waits."""
        at: cython.Py_ssize_t = 4 * slot
        home: cython.Py_ssize_t = self.records[at + PLACE] >> PLACE_BITS
        queue: SlotQueue = self.queues[home]
        if home == HELD and count < len(owner):
            # It may wait for long.
            self.put(slot, bytes(source[start : start + count]))
            return 0
        queue.append(slot, owner, source, start, count, self.records[at + COMMANDS] == 0)
        self.records[at + SIZE] += count
        self.records[at + COMMANDS] += 1
        return 0

    def all_arguments(self):
        arguments = []
        i: cython.longlong
        at: cython.Py_ssize_t = self.command
        size: cython.Py_ssize_t
        while self.ptr[at] != 10:
            at += 1
        at += 1
        for i in range(self.arguments_done):
            size = 0
            at += 1
            while self.ptr[at] != 13:
                size = size * 10 + self.ptr[at] - 48
                at += 1
            at += 2
            arguments.append(bytes(self.window[at : at + size]))
            at += size + 2
        return arguments

    def take_batch(self, number, offset, every_slot, least):
        """Return all that is in a queue, as a batch.

        every_slot: fields (encoded bulk strings, an even number; their count) that the checkpoint of every slot of the
        queue gets beside the offset, also of those without commands; None: only the offset.
        least: the queue's slots whose checkpoint is of a lower offset get one as well; -1: only those with commands.
        """
        i: cython.Py_ssize_t
        slot: cython.int
        count: cython.longlong
        tag: cython.longlong
        total: cython.longlong = 0
        groups: cython.Py_ssize_t = 0
        most: cython.Py_ssize_t
        at: cython.Py_ssize_t
        has_commands: cython.bint
        is_for_all: cython.bint = every_slot is not None or least >= 0
        has_fields: cython.bint = every_slot is not None
        is_transaction: cython.bint = self.is_transaction
        queue: SlotQueue = self.queues[number]
        out = self.out
        if is_for_all:
            members = self.members_of(number)
            candidates: cython.int[::1] = members
            most = len(members)
        else:
            candidates = queue.touched
            most = queue.touched_slots
        group_slots = array("i", [0]) * most
        group_starts = array("q", [0]) * (most + 1)
        group_replies = array("i", [0]) * most
        slots: cython.int[::1] = group_slots
        starts: cython.longlong[::1] = group_starts
        replies: cython.int[::1] = group_replies
        ending, tag_at = self.group_ending(offset, every_slot, is_transaction)
        tag_place: cython.Py_ssize_t = tag_at
        ending_bytes: cython.Py_ssize_t = len(ending)
        # Without a transaction a checkpoint follows the commands, and nothing ends them.
        without_exec: cython.Py_ssize_t = (
            ending_bytes - len(EXEC) if is_transaction else ending_bytes
        )
        if cython.compiled:
            ending_text: cython.p_uchar = ending
        else:
            ending_text = ending
        around: cython.Py_ssize_t = len(MULTI) + ending_bytes if is_transaction or is_for_all else 0
        out.begin_exact(queue.size + most * around)
        # First what stands around the commands, and room for them; then the commands.
        for i in range(most):
            if cython.compiled and i + AHEAD < most:
                prefetch(cython.address(self.records[4 * candidates[i + AHEAD]]))
            slot = candidates[i]
            if self.records[4 * slot + PLACE] >> PLACE_BITS != number:
                continue
            has_commands = self.records[4 * slot + COMMANDS] > 0
            if not has_commands and not has_fields and self.records[4 * slot + WRITTEN] >= least:
                continue
            slots[groups] = slot
            starts[groups] = out.pos
            count = 0
            if has_commands:
                if is_transaction:
                    out.put_bytes(MULTI)
                    count = 2
                count += self.records[4 * slot + COMMANDS]
                self.records[4 * slot + COMMANDS] = 0
                at = out.reserve(self.records[4 * slot + SIZE])
                self.records[4 * slot + SIZE] = at
            if is_transaction or is_for_all:
                self.records[4 * slot + WRITTEN] = offset
                out.put(ending_text, 0, ending_bytes if has_commands else without_exec)
                at = out.pos - (ending_bytes if has_commands else without_exec) + tag_place
                tag = self.records[4 * slot + PLACE]
                out.ptr[at] = tag & 0xFF
                out.ptr[at + 1] = (tag >> 8) & 0xFF
                out.ptr[at + 2] = (tag >> 16) & 0xFF
                out.ptr[at + 3] = (tag >> 24) & 0xFF
                count += 1
            replies[groups] = count
            total += count
            groups += 1
        starts[groups] = out.pos
        queue.scatter(self.records, out)
        for i in range(groups):
            self.records[4 * slots[i] + SIZE] = 0
        queue.clear()
        if groups < most:
            group_slots = group_slots[:groups]
            group_starts = group_starts[: groups + 1]
            group_replies = group_replies[:groups]
        return SlotBatch(
            out.end_exact(),
            group_slots,
            group_starts,
            group_replies,
            total,
            offset,
            is_transaction,
        )

    def group_ending(self, offset, every_slot, is_transaction):
        """What ends a group: its checkpoint (and EXEC), and where in it the slot's four letters go."""
        fields: cython.int = 2
        made = OutBuffer(256)
        if every_slot is not None:
            fields += every_slot[1]
        if self.margin_since_ms or every_slot is not None:
            fields += 2
        if self.tells_db:
            fields += 2
        made.put_header(42, 2 + fields)
        made.put_bytes(b"$4\r\nHSET\r\n")
        made.put_header(36, self.key_bytes)
        made.put_bytes(KEY_PREFIX)
        tag_at = made.pos
        made.put_bytes(b"????}")
        made.put_bytes(self.suffix)
        made.put_line_end()
        made.put_bytes(b"$1\r\no\r\n")
        made.put_bulk_number(offset if offset > 0 else 0)
        if self.margin_since_ms or every_slot is not None:
            made.put_bytes(b"$1\r\nm\r\n")
            made.put_bulk_number(self.margin_since_ms)
        if self.tells_db:
            made.put_bytes(b"$1\r\nb\r\n")
            made.put_bulk_number(self.source_db)
        if every_slot is not None:
            made.put_bytes(every_slot[0])
        if is_transaction:
            made.put_bytes(EXEC)
        return made.take(), tag_at
