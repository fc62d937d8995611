"""Counts the target's replies and finds the errors among them, at memory speed.

RESP2 only: the engine never sends HELLO 3. Big bulk replies are passed over, not held.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.errors import InternalError

MAX_DEPTH = 16
MAX_LINE_BYTES = 64 * 1024


if cython.compiled:
    from cython.cimports.libc.string import memcmp
else:
    QUEUED_BYTES = 9
QUEUED = b"+QUEUED\r\n"


def is_queued(data, at, queued):
    """Whether `queued` stands there, by far the most frequent reply inside transactions; the bytes are there."""
    if cython.compiled:
        return memcmp(data + at, queued, QUEUED_BYTES) == 0
    else:
        return data[at : at + QUEUED_BYTES] == queued


def line_end_from(data, at, end):
    """Where the next line end begins; `end` if none does."""
    while at < end and data[at] != 13:
        at += 1
    return at


@cython.cclass
class ReplySkimmer:
    """Feed reply bytes, get how many whole top-level replies they completed.

    errors: list of (reply, element, text) found since the last `take_errors`: the number of the top-level
    reply since the skimmer was made, the element of an EXEC's array it stands in (-1 at top level), the text
    without its '-'. null_arrays: numbers of the top-level replies that were a null array: an EXEC that did nothing
    answers so (multi.c, execCommand), and blocking pops outside of one.
    most_errors: more at once are not kept; who must know of each raises it.
    """

    def __init__(self) -> None:
        self.most_errors = 1000
        self.tail = b""
        self.skip = 0
        self.depth = 0
        self.replies = 0
        self.nulls = 0
        self.errors = []
        self.null_arrays = []
        if not cython.compiled:
            self.remaining = [0] * MAX_DEPTH
            self.total = [0] * MAX_DEPTH

    def take_errors(self):
        found = self.errors
        self.errors = []
        return found

    def take_null_arrays(self):
        found = self.null_arrays
        self.null_arrays = []
        return found

    def feed(self, chunk):
        """Read `chunk`; return the number of top-level replies completed by it.

        Raises:
            InternalError: bytes that are not RESP2; the connection must be dropped.
        """
        before: cython.longlong = self.replies
        mark: cython.int
        end: cython.Py_ssize_t
        line_end: cython.Py_ssize_t
        count: cython.longlong
        at: cython.Py_ssize_t = 0
        if self.tail:
            chunk = self.tail + chunk
            self.tail = b""
        end = len(chunk)
        if cython.compiled:
            ptr: cython.p_uchar = chunk
            text = QUEUED
            queued: cython.p_uchar = text
        else:
            ptr = chunk
            queued = QUEUED
        while at < end:
            if self.skip > 0:
                if self.skip > end - at:
                    self.skip -= end - at
                    at = end
                    break
                at += self.skip
                self.skip = 0
                self.complete_element()
                continue
            if self.depth == 0:  # inside transactions nearly all are of these
                count = 0
                while end - at >= QUEUED_BYTES and is_queued(ptr, at, queued):
                    at += QUEUED_BYTES
                    count += 1
                self.replies += count
                if at == end:
                    break
            mark = ptr[at]
            if mark == 43:
                if end - at >= 5 and ptr[at + 1] == 79 and ptr[at + 2] == 75 and ptr[at + 3] == 13:
                    line_end = at + 3
                else:
                    line_end = line_end_from(ptr, at + 1, end)
            elif mark == 58 and end - at >= 4 and ptr[at + 2] == 13:  # one digit
                line_end = at + 2
            else:
                line_end = line_end_from(ptr, at + 1, end)
            if line_end + 1 >= end:
                if end - at > MAX_LINE_BYTES:
                    raise InternalError("the target sent a reply line without an end")
                self.tail = chunk[at:]
                break
            if mark == 43 or mark == 58:  # + :
                if self.depth == 1 and self.remaining[0] > 1:
                    self.remaining[0] -= 1
                elif self.depth == 0:
                    self.replies += 1
                else:
                    self.complete_element()
            elif mark == 45:  # -
                self.note_error(chunk[at + 1 : line_end])
                self.complete_element()
            elif mark == 36:  # $
                count = self.parse(ptr, at + 1, line_end)
                if count < 0:
                    self.nulls += 1
                    self.complete_element()
                else:
                    self.skip = count + 2
            elif mark == 42:  # *
                count = self.parse(ptr, at + 1, line_end)
                if count <= 0:
                    if count < 0:
                        self.nulls += 1
                        if self.depth == 0 and len(self.null_arrays) < 1000:
                            self.null_arrays.append(self.replies)
                    self.complete_element()
                elif self.depth >= MAX_DEPTH:
                    raise InternalError("the target sent a reply nested too deeply")
                else:
                    self.remaining[self.depth] = count
                    self.total[self.depth] = count
                    self.depth += 1
            else:
                raise InternalError(
                    f"the target sent bytes that are no reply: {chunk[at : at + 24]!r}"
                )
            at = line_end + 2
        return self.replies - before

    def parse(self, data, start, stop):
        """The number in a line: digits, or -1."""
        value: cython.longlong = 0
        at: cython.Py_ssize_t = start
        digit: cython.int
        is_negative: cython.bint = at < stop and data[at] == 45
        if is_negative:
            at += 1
        if at == stop or stop - at > 18:
            raise self.bad_length(data, start, stop)
        while at < stop:
            digit = data[at] - 48
            if digit < 0 or digit > 9:
                raise self.bad_length(data, start, stop)
            value = value * 10 + digit
            at += 1
        return -value if is_negative else value

    def bad_length(self, data, start, stop):
        text = bytes([data[at] for at in range(start, min(stop, start + 24))])
        return InternalError(f"the target sent a reply with a bad length: {text!r}")

    def note_error(self, text):
        element = -1
        if self.depth > 0:
            element = self.total[0] - self.remaining[0]
        if len(self.errors) < self.most_errors:
            self.errors.append((self.replies, element, text.decode("utf-8", "replace")))

    def complete_element(self):
        while self.depth > 0:
            self.remaining[self.depth - 1] -= 1
            if self.remaining[self.depth - 1] > 0:
                return 0
            self.depth -= 1
        self.replies += 1
        return 0
