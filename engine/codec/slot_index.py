"""Where a block's commands lie, and their slots: noted where they are cut, so that the slot router reads them no second time.

An entry is one number: where the command ends in the block, and above that (INDEX_SHIFT) its slot + 1. The command begins
where the one before it ends. Slot -1: one or several commands that the router has to read itself.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.command_reader import KEPT_ARGUMENTS
    from engine.codec.slot_rules import RULE_FIRST, RULE_LAST, rule_before_key
    from engine.codec.slots import slot_of

    INDEX_SHIFT = 44

from array import array


@cython.cclass
class SlotIndex:
    """Of the open block. ends_at: where the last entry ends."""

    def __init__(self) -> None:
        self.capacity = 4096
        self.made = array("q", [0]) * self.capacity
        self.numbers = self.made
        self.count = 0
        self.ends_at = 0

    @cython.boundscheck(False)
    @cython.wraparound(False)
    def note(self, reader, end):
        """Note the command that `reader` has at hand, which ends at `end` of the block."""
        rule: cython.Py_ssize_t
        first: cython.Py_ssize_t
        last: cython.Py_ssize_t
        start: cython.longlong
        slot: cython.longlong
        if reader.arguments_done < 2:
            return 0
        rule = rule_before_key(reader.ptr, reader.argument_start[0], reader.argument_bytes[0])
        if rule < 0:
            return 0
        first = RULE_FIRST[rule]
        if first == 0 or first >= KEPT_ARGUMENTS or first >= reader.arguments_done:
            return 0
        last = RULE_LAST[rule]
        if last < 0:
            last += reader.arguments_done
        if last != first:
            return 0
        start = end - (reader.pos - reader.command)
        if start != self.ends_at:
            self.append(start)
        slot = slot_of(reader.ptr, reader.argument_start[first], reader.argument_bytes[first])
        if self.count == self.capacity:
            self.grow()
        self.numbers[self.count] = ((slot + 1) << INDEX_SHIFT) | end
        self.count += 1
        self.ends_at = end
        return 0

    def grow(self):
        self.made = self.made * 2
        self.numbers = self.made
        self.capacity *= 2
        return 0

    def append(self, number):
        if self.count == self.capacity:
            self.grow()
        self.numbers[self.count] = number
        self.count += 1
        return 0

    def take(self, end):
        """All entries of the block, which is `end` bytes long (array of 64-bit numbers); a new one begins."""
        if end != self.ends_at:
            self.append(end)
        taken = self.made[: self.count]
        self.count = 0
        self.ends_at = 0
        return taken
