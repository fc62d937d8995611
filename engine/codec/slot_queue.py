"""Commands on their way to one shard of a cluster, sorted by slot when a batch takes them."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    SIZE, COMMANDS, WRITTEN, PLACE = range(4)
    SIZE_BITS = 44

    def prefetch(place):
        """What the compiled form tells the processor: to fetch it into the cache."""


from array import array

# Of so many commands ahead what belongs to the slot is fetched into the cache.
AHEAD = 8


@cython.cclass
class SlotQueue:
    """Where each command lies, its slot and its size. The bytes stay in the block that they came with.

    numbers: slot + 1 and, below SIZE_BITS, the size; slot -1: the command was moved to another queue. starts: the address, or
    in the form that is not compiled the place in `origins`. owners: what keeps the bytes alive.
    touched: slots in the order of their first command, some more than once. size: bytes of all commands.
    has_strangers: some commands are of slots that go to another queue now.
    members: slots whose commands come here, in order; None: not known since a slot has changed hands.
    """

    def __init__(self) -> None:
        self.capacity = 1024
        self.starts = array("q", [0]) * self.capacity
        self.numbers = array("q", [0]) * self.capacity
        self.touched = array("i", [0]) * self.capacity
        self.members = None
        self.has_strangers = False
        self.clear()

    def clear(self):
        self.entries = 0
        self.touched_slots = 0
        self.size = 0
        self.owners = []
        self.last_owner = None
        if not cython.compiled:
            self.origins = []
        return 0

    def take_over(self, owner):
        """Keep a block alive."""
        self.owners.append(owner)
        self.last_owner = owner
        return 0

    def grow(self):
        self.starts = self.doubled("q", self.starts)
        self.numbers = self.doubled("q", self.numbers)
        self.touched = self.doubled("i", self.touched)
        self.capacity *= 2
        return 0

    def doubled(self, kind, numbers):
        """`numbers`, and room for as many behind them."""
        made = array(kind)
        made.frombytes(memoryview(numbers).cast("B"))
        return made + array(kind, [0]) * self.capacity

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def append(self, slot, owner, source, start, count, is_first):
        """Add a command: `count` bytes of `source` from `start`, which are `owner`'s. is_first: of its slot, here."""
        entry: cython.Py_ssize_t = self.entries
        if entry == self.capacity:
            self.grow()
        if owner is not self.last_owner:
            self.take_over(owner)
        if cython.compiled:
            self.starts[entry] = cython.cast(cython.longlong, source + start)
        else:
            self.starts[entry] = start
            self.origins.append(owner)
        self.numbers[entry] = (cython.cast(cython.longlong, slot + 1) << SIZE_BITS) | count
        self.entries = entry + 1
        self.size += count
        if is_first:
            self.touched[self.touched_slots] = slot
            self.touched_slots += 1
        return 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def slot_at(self, entry):
        """The slot of a command; -1: it is another queue's."""
        return cython.cast(cython.int, self.numbers[entry] >> SIZE_BITS) - 1

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def command_at(self, entry):
        """A copy of a command."""
        size: cython.Py_ssize_t = self.numbers[entry] & (
            (cython.cast(cython.longlong, 1) << SIZE_BITS) - 1
        )
        if cython.compiled:
            source: cython.p_uchar = cython.cast(cython.p_uchar, self.starts[entry])
            return source[:size]
        return self.origins[entry][self.starts[entry] : self.starts[entry] + size]

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def give_away(self, entry):
        """A command is another queue's now."""
        self.numbers[entry] &= (cython.cast(cython.longlong, 1) << SIZE_BITS) - 1
        return 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def scatter(self, records, out):
        """Copy each command to where its slot's next one goes: records[4 n + SIZE] of slot n, which moves on.

        Read in their order, written anywhere: a write that misses the caches is not waited for, a read would be.
        """
        entry: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        number: cython.longlong
        size: cython.longlong
        for entry in range(self.entries):
            if cython.compiled and entry + AHEAD < self.entries:
                number = self.numbers[entry + AHEAD] >> SIZE_BITS
                prefetch(cython.address(records[4 * max(number - 1, 0)]))
                prefetch(cython.cast(cython.p_char, self.starts[entry + AHEAD]))
            number = self.numbers[entry]
            slot = (number >> SIZE_BITS) - 1
            if slot >= 0:
                size = number & ((cython.cast(cython.longlong, 1) << SIZE_BITS) - 1)
                if cython.compiled:
                    out.put_at(
                        records[4 * slot + SIZE],
                        cython.cast(cython.p_uchar, self.starts[entry]),
                        0,
                        size,
                    )
                else:
                    out.put_at(
                        records[4 * slot + SIZE], self.origins[entry], self.starts[entry], size
                    )
                records[4 * slot + SIZE] += size
        return 0
