"""Reads the checkpoints of many slots out of the replies to HGETALL: 16,384 of them in some milliseconds.

What the fields mean stands in engine/checkpoint/slot_checkpoints.py.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from array import array

from engine.errors import InternalError

if not cython.compiled:
    SLOTS = 16384
    ABSENT = 0  # states of a slot
    OTHER = 1
    STREAM = 2
    UNREADABLE = -2  # instead of a number
    MARK_BYTES = 2
    LETTER_P = 112
    LETTER_O = 111
    LETTER_M = 109
    LETTER_B = 98
    LETTER_G = 103
    LETTER_R = 114
    LETTER_L = 108
    LETTER_F = 102

IS_STREAM = STREAM
MAX_LINE_BYTES = 4096


@cython.cclass
class SlotStates:
    """What the slots' checkpoints say, each list by slot.

    states (bytes): 0 there is none, 2 it is of the stream, 1 of anything else. offsets, margins, dbs: `o`, `m`, `b`; -1 where
    the field is missing, -2 where it is no number. generations, replids, ledgers: `g`, `r`, `l`, as places in `texts`; 0,
    the empty text, where the field is missing. everywhere: `f`, by slot. marks: (slot, key) of each `d:` field.
    """

    def __init__(self) -> None:
        self.states = bytearray(SLOTS)
        self.offsets = array("q", [-1]) * SLOTS
        self.margins = array("q", [-1]) * SLOTS
        self.dbs = array("q", [-1]) * SLOTS
        self.everywhere = array("q", [-1]) * SLOTS
        self.generations = array("i", [0]) * SLOTS
        self.replids = array("i", [0]) * SLOTS
        self.ledgers = array("i", [0]) * SLOTS
        self.texts = [b""]
        self.places = {b"": 0}
        self.marks = []

    def place_of(self, text):
        """Where a text stands in `texts`; nearly all slots have the same ones."""
        if text not in self.places:
            self.places[text] = len(self.texts)
            self.texts.append(text)
        return self.places[text]


@cython.cclass
class SlotStateReader:
    """Feed replies to HGETALL of these slots' checkpoints, in order; they are noted in `found`.

    replies: how many whole ones there have been, from the number that it is made with on. errors: (reply, -1, text), as
    those of ReplySkimmer.
    """

    def __init__(self, slots, found, replies) -> None:
        self.slots = slots
        self.found = found
        self.first = replies
        self.replies = replies
        self.errors = []
        self.tail = b""
        self.left = 0  # bulk strings of the reply at hand
        self.letter = 0  # the field whose value comes next; 0: none that is known
        self.slot = -1

    def take_errors(self):
        found = self.errors
        self.errors = []
        return found

    def take_null_arrays(self):
        return []

    def feed(self, chunk):
        """Read `chunk`; return the number of replies completed by it.

        Raises:
            InternalError: what came is no reply to HGETALL; the connection must be dropped.
        """
        before: cython.longlong = self.replies
        at: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        line_end: cython.Py_ssize_t
        count: cython.longlong
        mark: cython.int
        if self.tail:
            chunk = self.tail + chunk
            self.tail = b""
        end = len(chunk)
        if cython.compiled:
            ptr: cython.p_uchar = chunk
        else:
            ptr = chunk
        while at < end:
            mark = ptr[at]
            line_end = at + 1
            while line_end < end and ptr[line_end] != 13:
                line_end += 1
            if line_end + 1 >= end:
                if end - at > MAX_LINE_BYTES:
                    raise InternalError("the target sent a reply line without an end")
                break
            if self.left == 0:
                if mark == 45:  # -
                    text = chunk[at + 1 : line_end].decode("utf-8", "replace")
                    self.errors.append((self.replies, -1, text))
                    self.replies += 1
                elif mark == 42:  # *
                    count = number_in(ptr, at + 1, line_end)
                    if count < 0 or count % 2 != 0 or self.replies - self.first >= len(self.slots):
                        raise self.unexpected(chunk, at)
                    self.begin(count)
                elif mark == 43:  # + to ASKING, which is before a question
                    self.first += 1
                    self.replies += 1
                else:
                    raise self.unexpected(chunk, at)
                at = line_end + 2
                continue
            count = number_in(ptr, at + 1, line_end)
            if mark != 36 or count < 0:  # $
                raise self.unexpected(chunk, at)
            if line_end + 2 + count + 2 > end:
                break
            self.take(chunk, ptr, line_end + 2, count)
            at = line_end + 2 + count + 2
            self.left -= 1
            if self.left == 0:
                self.replies += 1
        if at < end:
            self.tail = chunk[at:]
        return self.replies - before

    def unexpected(self, chunk, at):
        return InternalError(
            f"the target sent bytes that are no reply to HGETALL: {chunk[at : at + 24]!r}"
        )

    def begin(self, count):
        self.slot = self.slots[self.replies - self.first]
        self.left = count
        self.letter = 0
        if count == 0:
            self.replies += 1
        else:
            self.found.states[self.slot] = OTHER
        return 0

    def take(self, chunk, data, start, count):
        """A field's name, or its value."""
        found: SlotStates = self.found
        slot: cython.int = self.slot
        letter: cython.int = self.letter
        if self.left % 2 == 0:
            self.letter = data[start] if count == 1 else 0
            if count >= MARK_BYTES and data[start] == 100 and data[start + 1] == 58:  # d:
                found.marks.append((slot, chunk[start + MARK_BYTES : start + count]))
            return 0
        if letter == LETTER_P:
            if chunk[start : start + count] == b"stream":
                found.states[slot] = STREAM
        elif letter == LETTER_O:
            found.offsets[slot] = number_in(data, start, start + count)
        elif letter == LETTER_M:
            found.margins[slot] = number_in(data, start, start + count)
        elif letter == LETTER_B:
            found.dbs[slot] = number_in(data, start, start + count)
        elif letter == LETTER_F:
            found.everywhere[slot] = number_in(data, start, start + count)
        elif letter == LETTER_G:
            found.generations[slot] = found.place_of(chunk[start : start + count])
        elif letter == LETTER_R:
            found.replids[slot] = found.place_of(chunk[start : start + count])
        elif letter == LETTER_L:
            found.ledgers[slot] = found.place_of(chunk[start : start + count])
        return 0


def number_in(data, start, stop):
    """The digits of a line as a number; UNREADABLE if there is anything else."""
    value: cython.longlong = 0
    at: cython.Py_ssize_t
    digit: cython.int
    if start == stop or stop - start > 18:
        return UNREADABLE
    for at in range(start, stop):
        digit = data[at] - 48
        if digit < 0 or digit > 9:
            return UNREADABLE
        value = value * 10 + digit
    return value
