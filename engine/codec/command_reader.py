"""Cuts a stream of RESP commands into commands, in any chunking, without copying them.

A command whose bytes have not all come is gone on with where it was left, argument by argument.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.errors import StreamOutOfStep

if not cython.compiled:
    KEPT_ARGUMENTS = 12
MAX_ARGUMENTS = 1 << 31
MAX_ARGUMENT_BYTES = 1 << 40
MAX_LINE_BYTES = 64
INLINE_COMMANDS = frozenset({(b"SELECT", True), (b"PING", False)})
MARK_BYTES = (
    13  # 1, then offset + MARK_BIAS in eight bytes and the database in four, the lowest byte first
)
MARK_BIAS = 1 << 41


def short_length(data, at, end):
    """N of a `$N` with its line end at `at` that has one digit, or two and no zero before them; -1: it is no such one."""
    first: cython.int
    second: cython.int
    if end - at < 5 or data[at] != 36:
        return -1
    first = data[at + 1] - 48
    if first < 0 or first > 9:
        return -1
    if data[at + 2] == 13:
        return first if data[at + 3] == 10 else -1
    second = data[at + 2] - 48
    if first == 0 or second < 0 or second > 9 or data[at + 3] != 13 or data[at + 4] != 10:
        return -1
    return first * 10 + second


@cython.cclass
class CommandReader:
    """After `read_command` the command's bytes lie in [command, pos) of the window.

    Its first KEPT_ARGUMENTS arguments can be had by `argument`; `arguments_done` is how many it has.

    takes_marks: commands may have a mark before them, where the bytes are not the source's own (stream_selector.py): the
    offset that the next byte counts from, and the database that the source has selected. marked_bytes: of the mark
    before the command at hand; source_db: what the newest one said.
    """

    def __init__(self, offset) -> None:
        self.window = bytearray()
        self.pos = 0
        self.end = 0
        self.command = 0
        self.base_offset = offset
        self.arguments = 0
        self.arguments_done = 0
        self.takes_marks = False
        self.marked_bytes = 0
        self.source_db = 0
        if not cython.compiled:
            self.argument_start = [0] * KEPT_ARGUMENTS
            self.argument_bytes = [0] * KEPT_ARGUMENTS
        self.bind()

    def bind(self):
        if cython.compiled:
            self.ptr = cython.cast(cython.p_uchar, cython.cast(cython.p_char, self.window))
        else:
            self.ptr = self.window

    def add_bytes(self, chunk):
        """Add bytes behind the window; what lies before the command at hand is let go."""
        i: cython.int
        keep: cython.Py_ssize_t = self.command
        if keep > 0:
            del self.window[:keep]
            self.base_offset += keep
            self.pos -= keep
            self.command = 0
            for i in range(KEPT_ARGUMENTS):
                self.argument_start[i] -= keep
        self.window += chunk
        self.end = len(self.window)
        self.bind()

    def out_of_step(self, message):
        at = self.base_offset + self.pos
        return StreamOutOfStep(
            f"the replication stream is out of step at offset {at}: {message}",
            offset=at,
            detail=f"bytes {bytes(self.window[self.pos : self.pos + 24])!r}",
            hint="it came twice like this: look for what changes bytes between source and redis-ferry, or run the "
            "same command under another --task-id for a full resync",
        )

    def read_command(self):
        """Read up to the end of one command: 0 bytes are missing, 1 a command, 2 an inline one or a newline."""
        after: cython.Py_ssize_t
        if self.arguments == 0:
            self.command = self.pos
            if self.pos >= self.end:
                return 0
            if self.ptr[self.pos] == 10:  # a lone newline is a keep-alive and counts as a byte
                self.pos += 1
                self.argument_bytes[0] = 0
                self.arguments_done = 0
                return 2
            if self.ptr[self.pos] != 42:
                if not self.takes_marks or self.ptr[self.pos] != 1:
                    return self.read_inline()
                if not self.read_mark():
                    return 0
                if self.ptr[self.pos] == 10:
                    self.pos += 1
                    self.argument_bytes[0] = 0
                    self.arguments_done = 0
                    return 2
            after = self.read_number(self.pos + 1)
            if after < 0:
                return 0
            if self.number < 1 or self.number > MAX_ARGUMENTS:
                raise self.out_of_step(f"a command of {self.number} arguments")
            self.arguments = self.number
            self.arguments_done = 0
            self.pos = after
        # In locals: the compiler must reload a field whenever a byte may have been written.
        pos: cython.Py_ssize_t = self.pos
        end: cython.Py_ssize_t = self.end
        done: cython.longlong = self.arguments_done
        count: cython.longlong
        ptr = self.ptr
        while done < self.arguments:
            count = short_length(ptr, pos, end)
            if count >= 0:
                after = pos + (4 if count < 10 else 5)
            else:
                self.pos = pos
                self.arguments_done = done
                after = self.read_length(pos)
                if after < 0:
                    return 0
                count = self.number
            if after + count + 2 > end:
                self.pos = pos
                self.arguments_done = done
                return 0
            if ptr[after + count] != 13 or ptr[after + count + 1] != 10:
                self.pos = pos
                raise self.out_of_step("an argument does not end where its length says")
            if done < KEPT_ARGUMENTS:
                self.argument_start[done] = after
                self.argument_bytes[done] = count
            done += 1
            pos = after + count + 2
        self.pos = pos
        self.arguments_done = done
        self.arguments = 0
        return 1

    def read_length(self, at):
        """Read `$N` and its line end at `at` into `number`; the position behind it, or -1: bytes are missing."""
        after: cython.Py_ssize_t
        if at >= self.end:
            return -1
        if self.ptr[at] != 36:
            raise self.out_of_step("an argument must begin with '$'")
        after = self.read_number(at + 1)
        if after >= 0 and (self.number < 0 or self.number > MAX_ARGUMENT_BYTES):
            raise self.out_of_step(f"an argument of {self.number} bytes")
        return after

    def read_mark(self):
        """Take over what a mark says; False if bytes are missing behind it."""
        at: cython.Py_ssize_t = self.pos
        i: cython.int
        offset: cython.longlong = 0
        db: cython.longlong = 0
        if self.end - at <= MARK_BYTES:
            return False
        for i in range(8, 0, -1):
            offset = (offset << 8) | self.ptr[at + i]
        for i in range(12, 8, -1):
            db = (db << 8) | self.ptr[at + i]
        self.pos = at + MARK_BYTES
        self.command = self.pos
        self.marked_bytes = MARK_BYTES
        self.base_offset = offset - MARK_BIAS - self.pos
        self.source_db = db
        return True

    def read_inline(self):
        """`select 3` or `PING` on a line of its own, as sources before 2.8 send them: 0 or 2."""
        line, separator, _ = bytes(self.window[self.pos : self.pos + MAX_LINE_BYTES]).partition(
            b"\r\n"
        )
        if not separator and len(line) < MAX_LINE_BYTES and line[:1].isalpha():
            return 0
        name, _, number = line.partition(b" ")
        if not separator or (name.upper(), number.isdigit()) not in INLINE_COMMANDS:
            raise self.out_of_step("a command must begin with '*'")
        self.argument_start[0] = self.pos
        self.argument_bytes[0] = len(name)
        self.argument_start[1] = self.pos + len(name) + 1
        self.argument_bytes[1] = len(number)
        self.arguments_done = 2
        self.pos += len(line) + 2
        return 2

    def read_number(self, at):
        """Read digits and a line end at `at` into `number`; the position behind it, or -1."""
        value: cython.longlong = 0
        digit: cython.int
        start: cython.Py_ssize_t = at
        while at < self.end:
            digit = self.ptr[at] - 48
            if digit < 0 or digit > 9:
                break
            value = value * 10 + digit
            at += 1
            if at - start > 18:
                raise self.out_of_step("a number is too long")
        if at + 2 > self.end:
            if at < self.end and self.ptr[at] != 13:
                raise self.out_of_step("a number does not end its line")
            return -1
        if at == start or self.ptr[at] != 13 or self.ptr[at + 1] != 10:
            raise self.out_of_step("a number does not end its line")
        self.number = value
        return at + 2

    def is_named(self, name):
        """Whether argument 0 is `name` (upper case letters), in any case. Lengths are equal already."""
        i: cython.Py_ssize_t
        start: cython.Py_ssize_t = self.argument_start[0]
        count: cython.Py_ssize_t = self.argument_bytes[0]
        for i in range(count):
            if (self.ptr[start + i] & 0xDF) != name[i]:
                return False
        return True

    def argument(self, index):
        if index >= self.arguments_done or index >= KEPT_ARGUMENTS:
            return b""
        start: cython.Py_ssize_t = self.argument_start[index]
        return bytes(self.window[start : start + self.argument_bytes[index]])
