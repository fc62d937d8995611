"""Plain commands in, batches for a cluster out: grouped by slot, each group a transaction with its checkpoint.

    MULTI · commands of one slot … · HSET checkpoint-of-the-slot o offset · EXEC

A batch has at most one group for each slot, and a shard gets the next batch only when it has answered this one, so no
group can be applied behind one that was refused (engine/replay/cluster_delivery.py). Within a slot the order is that of
the stream.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS, CommandReader
    from engine.codec.out_buffer import OutBuffer
    from engine.codec.slots import slot_of

from array import array

from engine.codec.command_keys import routing_rules
from engine.codec.slots import slot_tags

if not cython.compiled:
    SLOTS = 16384
    RULES = 2048
    RULE_NAMES = [0] * RULES
    RULE_BYTES = [0] * RULES
    RULE_FIRST = [0] * RULES
    RULE_LAST = [0] * RULES
    RULE_STEP = [0] * RULES

KEY_PREFIX = b"redis-ferry:slot:{"


def name_code(data, start, count):
    """A number for a name, in any case."""
    code: cython.ulonglong = 0
    i: cython.Py_ssize_t
    for i in range(start, start + count):
        if cython.compiled:
            code = code * 31 + (data[i] & 0xDF)
        else:
            code = (code * 31 + (data[i] & 0xDF)) & 0xFFFFFFFFFFFFFFFF
    return code


def fill_rules():
    place: cython.Py_ssize_t
    code: cython.ulonglong
    for name, (first, last, step) in routing_rules().items():
        text = name.encode()
        if cython.compiled:
            pointer: cython.p_uchar = text
            code = name_code(pointer, 0, len(text))
        else:
            code = name_code(text, 0, len(text))
        place = (code ^ (code >> 9)) & (RULES - 1)
        while RULE_BYTES[place] != 0:
            place = (place + 1) & (RULES - 1)
        RULE_NAMES[place] = code
        RULE_BYTES[place] = len(text)
        RULE_FIRST[place] = first
        RULE_LAST[place] = last
        RULE_STEP[place] = step


fill_rules()


def find_rule(data, start, count):
    """Where a command's rule stands; -1: it has none."""
    code: cython.ulonglong = name_code(data, start, count)
    place: cython.Py_ssize_t = (code ^ (code >> 9)) & (RULES - 1)
    while RULE_BYTES[place] != 0:
        if RULE_NAMES[place] == code and RULE_BYTES[place] == count:
            return place
        place = (place + 1) & (RULES - 1)
    return -1


class SlotBatch:
    """Groups of commands, by slot. offset: of the stream behind them, -1 in the snapshot. commands: the source's, in it.

    data: all groups; slots, starts, replies: of each group its slot, where it begins and how many replies it gets.
    applied: for each group 1 once the target has it. keys: of the snapshot. source_bytes: as they came.
    """

    __slots__ = (
        "applied",
        "commands",
        "data",
        "is_transaction",
        "keys",
        "offset",
        "received_seconds",
        "replies",
        "skipped",
        "slots",
        "starts",
    )

    def __init__(self, data, slots, starts, replies, offset, commands, keys, is_transaction):
        self.data = data
        self.slots = slots
        self.starts = starts
        self.replies = replies
        self.offset = offset
        self.commands = commands
        self.keys = keys
        self.is_transaction = is_transaction
        self.received_seconds = 0.0
        self.skipped = 0
        self.applied = bytearray(len(slots))

    def group_data(self, group):
        """The commands of one group."""
        return self.data[self.starts[group] : self.starts[group + 1]]

    def group_after(self, groups, replies):
        """Which of `groups` (their numbers, in order) got reply number `replies`, and which of its replies that is."""
        for group in groups:
            if replies < self.replies[group]:
                return group, replies
            replies -= self.replies[group]
        raise IndexError("a reply without a command")


@cython.cclass
class SlotRouter(CommandReader):
    """Add plain commands, take batches.

    suffix: ends the names of the slots' checkpoints. is_transaction: each group is one, with its checkpoint; else
    the groups are the commands alone. margin_since_ms: goes into the checkpoints where it is not 0.
    skip: for each slot the offset that the target has; what stands before it is left out. None: nothing is.
    skipped: commands left out so. split_transactions: of the source, those over several slots.
    event: the command that is not of one slot by the table, or has no key (arguments); None: there is none.
    tainted: slots whose commands all become events (bytes of 16384, 1: so); None: there are none.
    """

    def __init__(self, suffix, is_transaction) -> None:
        CommandReader.__init__(self, 0)
        self.store = OutBuffer(256 * 1024)
        self.out = OutBuffer(256 * 1024)
        self.capacity = 1024
        self.entry_slots = array("i", [0]) * self.capacity
        self.entry_ends = array("q", [0]) * self.capacity
        self.order = array("i", [0]) * self.capacity
        self.counts = array("i", [0]) * (SLOTS + 1)
        self.entries = 0
        self.tags = slot_tags()
        self.suffix = suffix
        self.key_bytes = len(KEY_PREFIX) + 5 + len(suffix)
        self.is_transaction = is_transaction
        self.margin_since_ms = 0
        self.skip_table = None
        self.has_skip = False
        self.skipped = 0
        self.split_transactions = 0
        self.transaction_slot = -1
        self.in_transaction = False
        self.is_split = False
        self.commands = 0
        self.keys = 0
        self.event = None
        self.tainted = None

    @property
    def skip(self):
        return self.skip_table

    @skip.setter
    def skip(self, table):
        self.skip_table = table
        self.has_skip = table is not None

    @property
    def pending_bytes(self):
        """Bytes of commands that no batch has taken."""
        return self.store.pos

    @property
    def pending(self):
        """How many commands no batch has taken."""
        return self.entries

    def checkpoint_key(self, slot):
        """The key of a slot's checkpoint."""
        return KEY_PREFIX + self.tags[4 * slot : 4 * slot + 4] + b"}" + self.suffix

    def add(self, data):
        """Take whole commands, to be gone on with by `run`."""
        self.add_bytes(data)

    def run(self, offset):
        """Take commands up to the end of what was added, or to one that is an `event`: then True.

        offset: the stream's behind what was added; -1: commands of ours, which are never skipped.
        """
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
            self.take(slot, offset)
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

    def take(self, slot, offset):
        """Put the command at hand into a slot's group, unless the target has it."""
        if self.in_transaction:
            if self.transaction_slot >= 0 and self.transaction_slot != slot:
                self.is_split = True
            self.transaction_slot = slot
        if self.has_skip and offset >= 0 and offset <= self.skip_table[slot]:
            self.skipped += 1
            return 0
        self.store.put(self.ptr, self.command, self.pos - self.command)
        self.note_entry(slot)
        self.commands += 1
        return 0

    def put(self, slot, command):
        """Put an encoded command of the caller's making into a slot's group."""
        self.store.put_bytes(command)
        self.note_entry(slot)

    def note_entry(self, slot):
        if self.entries == self.capacity:
            self.capacity *= 2
            grown = array("i", [0]) * self.capacity
            grown[: self.entries] = array("i", self.entry_slots)
            self.entry_slots = grown
            ends = array("q", [0]) * self.capacity
            ends[: self.entries] = array("q", self.entry_ends)
            self.entry_ends = ends
            self.order = array("i", [0]) * self.capacity
        self.entry_slots[self.entries] = slot
        self.entry_ends[self.entries] = self.store.pos
        self.entries += 1
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

    def take_batch(self, offset, every_slot):
        """Return all that was taken, as a batch.

        every_slot: fields (encoded bulk strings, an even number; their count) that the checkpoint of every slot gets,
        also of those without commands; None: only the offset, where commands are.
        """
        n: cython.Py_ssize_t = self.entries
        i: cython.Py_ssize_t
        slot: cython.int
        total: cython.int = 0
        count: cython.int
        entry: cython.int
        groups: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        has_fields: cython.bint = every_slot is not None
        is_transaction: cython.bint = self.is_transaction
        out = self.out
        for i in range(SLOTS + 1):
            self.counts[i] = 0
        for i in range(n):
            self.counts[self.entry_slots[i]] += 1
        for i in range(SLOTS):  # from counts to places
            count = self.counts[i]
            self.counts[i] = total
            total += count
            if count or has_fields:
                groups += 1
        self.counts[SLOTS] = total
        for i in range(n):
            slot = self.entry_slots[i]
            self.order[self.counts[slot]] = i
            self.counts[slot] += 1
        # counts[slot] is now where the next slot's begin
        slots = array("i", [0]) * groups
        starts = array("q", [0]) * (groups + 1)
        replies = array("i", [0]) * groups
        self.group_slots = slots
        self.group_starts = starts
        self.group_replies = replies
        groups = 0
        total = 0
        for slot in range(SLOTS):
            count = self.counts[slot] - total
            if count == 0 and not has_fields:
                continue
            self.group_slots[groups] = slot
            self.group_starts[groups] = out.pos
            self.group_replies[groups] = 0
            if count and is_transaction:
                out.put_bytes(b"*1\r\n$5\r\nMULTI\r\n")
                self.group_replies[groups] = 2
            for i in range(total, total + count):
                entry = self.order[i]
                start = self.entry_ends[entry - 1] if entry > 0 else 0
                out.put(self.store.ptr, start, self.entry_ends[entry] - start)
            if is_transaction or has_fields:
                self.put_checkpoint(slot, offset, every_slot)
                self.group_replies[groups] += 1
            if count and is_transaction:
                out.put_bytes(b"*1\r\n$4\r\nEXEC\r\n")
            self.group_replies[groups] += count
            total += count
            groups += 1
        self.group_starts[groups] = out.pos
        self.group_slots = self.group_replies = None
        self.group_starts = None
        batch = SlotBatch(
            out.take(), slots, starts, replies, offset, self.commands, self.keys, is_transaction
        )
        self.store.pos = 0
        self.entries = 0
        self.commands = 0
        self.keys = 0
        return batch

    def put_checkpoint(self, slot, offset, every_slot):
        out = self.out
        fields: cython.int = 0
        if every_slot is not None:
            fields = every_slot[1]
        elif self.margin_since_ms:
            fields = 4
        else:
            fields = 2
        out.put_header(42, 2 + fields)
        out.put_bytes(b"$4\r\nHSET\r\n")
        out.put_header(36, self.key_bytes)
        out.put_bytes(KEY_PREFIX)
        out.put_bytes(self.tags[4 * slot : 4 * slot + 4])
        out.put_byte(125)
        out.put_bytes(self.suffix)
        out.put_line_end()
        if every_slot is not None:
            out.put_bytes(every_slot[0])
            return 0
        out.put_bytes(b"$1\r\no\r\n")
        out.put_bulk_number(offset if offset > 0 else 0)
        if self.margin_since_ms:
            out.put_bytes(b"$1\r\nm\r\n")
            out.put_bulk_number(self.margin_since_ms)
        return 0


def split(batch, table):
    """A batch's groups that the target does not have, by who serves their slots: {shard: (data, replies, groups)}.

    table: for each slot its shard's number, array of int; -1 is a shard like the others.
    """
    slots: cython.int[::1] = batch.slots
    replies: cython.int[::1] = batch.replies
    starts: cython.longlong[::1] = batch.starts
    shards: cython.int[::1] = table
    applied = batch.applied
    i: cython.Py_ssize_t
    shard: cython.int = -2
    first: cython.Py_ssize_t = 0
    count: cython.Py_ssize_t = len(batch.slots)
    total: cython.longlong = 0
    runs = []
    for i in range(count):
        if applied[i]:
            if shard != -2:
                runs.append((shard, first, i, total))
                shard = -2
            continue
        if shards[slots[i]] != shard:
            if shard != -2:
                runs.append((shard, first, i, total))
            shard = shards[slots[i]]
            first = i
            total = 0
        total += replies[i]
    if shard != -2:
        runs.append((shard, first, count, total))
    found = {}
    view = memoryview(batch.data)
    for number, begin, end, some in runs:
        parts, before, groups = found.get(number, ([], 0, []))
        parts.append(view[starts[begin] : starts[end]])
        groups.append((begin, end))
        found[number] = (parts, before + some, groups)
    return {
        number: (b"".join(parts), some, groups) for number, (parts, some, groups) in found.items()
    }
