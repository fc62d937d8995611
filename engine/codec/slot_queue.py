"""Commands on their way to one shard of a cluster, sorted by slot when a batch takes them."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.out_buffer import OutBuffer

    NOBODY = -1
    SIZE, COMMANDS, WRITTEN, TAG = range(4)

    def prefetch(place):
        """What the compiled form tells the processor: to fetch it into the cache."""


from array import array

# Buffers that have grown beyond it by one huge value are let go; a batch under load, with its checkpoints, stays below.
MOST_KEPT_BYTES = 16 * 1024 * 1024
# Of so many commands ahead what belongs to the slot is fetched into the cache.
AHEAD = 8


@cython.cclass
class SlotQueue:
    """Bytes one behind the other, and for each command where it ends, its slot, and the next one of that slot.

    slots: NOBODY where the command was moved to another queue. touched: slots in the order of their first command.
    members: slots whose commands come here, in order; None: not known since a slot has changed hands.
    """

    def __init__(self) -> None:
        self.store = OutBuffer(64 * 1024)
        self.capacity = 1024
        self.ends = array("q", [0]) * self.capacity
        self.slots = array("i", [0]) * self.capacity
        self.following = array("i", [0]) * self.capacity
        self.touched = array("i", [0]) * self.capacity
        self.entries = 0
        self.touched_slots = 0
        self.members = None

    def grow(self):
        self.ends = self.doubled("q", self.ends)
        self.slots = self.doubled("i", self.slots)
        self.following = self.doubled("i", self.following)
        self.touched = self.doubled("i", self.touched)
        self.capacity *= 2
        return 0

    def doubled(self, kind, numbers):
        """`numbers`, and room for as many behind them."""
        made = array(kind)
        made.frombytes(memoryview(numbers).cast("B"))
        return made + array(kind, [0]) * self.capacity

    def clear(self):
        self.entries = 0
        self.touched_slots = 0
        self.store.pos = 0
        if self.store.capacity > MOST_KEPT_BYTES:
            self.store = OutBuffer(64 * 1024)
        return 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def measure(self, records):
        """Add up bytes and commands of each slot: records[4 n + SIZE] and records[4 n + COMMANDS] of slot n."""
        entry: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        start: cython.longlong = 0
        for entry in range(self.entries):
            if cython.compiled and entry + AHEAD < self.entries:
                prefetch(cython.address(records[4 * max(self.slots[entry + AHEAD], 0)]))
            slot = self.slots[entry]
            if slot >= 0:
                records[4 * slot + SIZE] += self.ends[entry] - start
                records[4 * slot + COMMANDS] += 1
            start = self.ends[entry]
        return 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def scatter(self, records, out):
        """Copy each command to where its slot's next one goes: records[4 n + SIZE] of slot n, which moves on.

        Read in their order, written anywhere: a write that misses the caches is not waited for, a read would be.
        """
        entry: cython.Py_ssize_t
        slot: cython.Py_ssize_t
        start: cython.longlong = 0
        size: cython.longlong
        for entry in range(self.entries):
            if cython.compiled and entry + AHEAD < self.entries:
                prefetch(cython.address(records[4 * max(self.slots[entry + AHEAD], 0)]))
            slot = self.slots[entry]
            size = self.ends[entry] - start
            if slot >= 0:
                out.put_at(records[4 * slot + SIZE], self.store.ptr, start, size)
                records[4 * slot + SIZE] += size
            start += size
        return 0
