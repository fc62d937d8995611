"""Walks an append-only file command by command, without holding values: is it sound, and where does it end.

The form is that of aof.c, loadSingleAppendOnlyFile: commands as clients send them, and lines that begin with '#'
(annotations, `aof-timestamp-enabled`) between them.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.errors import CorruptAof

MAX_ARGUMENTS = 1 << 31
MAX_ARGUMENT_BYTES = 1 << 40
MAX_LINE_BYTES = 128
LONGEST_NAME = 5  # MULTI


@cython.cclass
class AofScan:
    """Feed a file from `offset` on, which must be where a command begins; `name`: its name, for errors.

    position: everything before it is read; it may lie behind what was fed, inside a value. boundary: where the last
    command ended. valid_end: the same, outside of any transaction. in_transaction: a MULTI waits for its EXEC.
    commands: so many were whole. annotations: (start, end) of those met since the list was last emptied.
    All positions count in the file.
    """

    def __init__(self, name: str, offset: int) -> None:
        self.name = name
        self.window = b""
        self.base = offset
        self.pos = 0
        self.end = 0
        self.skip = 0
        self.awaits_end = False
        self.arguments = 0
        self.arguments_done = 0
        self.number = 0
        self.begins = False
        self.ends = False
        self.in_transaction = False
        self.boundary = offset
        self.valid_end = offset
        self.commands = 0
        self.annotations = []

    def bind(self):
        if cython.compiled:
            self.ptr = cython.cast(cython.p_uchar, cython.cast(cython.p_char, self.window))
        else:
            self.ptr = self.window

    @property
    def position(self):
        """See the class."""
        return self.base + self.pos + self.skip

    @property
    def is_whole(self):
        """Whether what was fed ends behind a command (or an annotation), outside of any transaction."""
        return self.valid_end == self.base + self.end and self.skip == 0

    def feed(self, chunk):
        """Take the bytes that follow.

        Raises:
            CorruptAof: they are not what an append-only file holds there.
        """
        step: cython.Py_ssize_t
        if self.skip >= len(chunk):  # inside a value: nothing of it is kept
            self.skip -= len(chunk)
            self.base += self.end + len(chunk)
            self.pos = self.end = 0
            self.window = b""
            return
        self.base += self.pos
        self.window = self.window[self.pos :] + chunk
        self.pos = 0
        self.end = len(self.window)
        self.bind()
        while True:
            if self.skip > 0:
                step = min(self.skip, self.end - self.pos)
                self.pos += step
                self.skip -= step
                if self.skip > 0:
                    return
            if self.awaits_end:
                if self.end - self.pos < 2:
                    return
                if self.ptr[self.pos] != 13 or self.ptr[self.pos + 1] != 10:
                    raise self.corrupt("an argument does not end where its length says")
                self.pos += 2
                self.awaits_end = False
                self.arguments_done += 1
                if self.arguments_done == self.arguments:
                    self.end_command()
            if not self.read_line():
                return

    def end_command(self):
        self.arguments = 0
        self.commands += 1
        self.boundary = self.base + self.pos
        if self.begins:
            self.in_transaction = True
        elif self.ends:
            self.in_transaction = False
        if not self.in_transaction:
            self.valid_end = self.boundary

    def read_line(self):
        """Take the line at hand: the head of a command or of an argument, or an annotation. False: bytes are missing."""
        after: cython.Py_ssize_t
        if self.pos >= self.end:
            return False
        if self.arguments == 0:
            if self.ptr[self.pos] == 35:
                return self.read_annotation()
            if self.ptr[self.pos] != 42:
                raise self.corrupt("a command must begin with '*'")
            after = self.read_number(self.pos + 1)
            if after < 0:
                return False
            if self.number < 1 or self.number > MAX_ARGUMENTS:
                raise self.corrupt(f"a command of {self.number} arguments")
            self.arguments = self.number
            self.arguments_done = 0
            self.begins = self.ends = False
            self.pos = after
            return True
        if self.ptr[self.pos] != 36:
            raise self.corrupt("an argument must begin with '$'")
        after = self.read_number(self.pos + 1)
        if after < 0:
            return False
        if self.number > MAX_ARGUMENT_BYTES:
            raise self.corrupt(f"an argument of {self.number} bytes")
        if self.arguments_done == 0 and self.number <= LONGEST_NAME:
            if after + self.number > self.end:
                return False
            self.begins = self.number == 5 and self.is_named(after, b"MULTI")
            self.ends = self.number == 4 and self.is_named(after, b"EXEC")
        self.pos = after
        self.skip = self.number
        self.awaits_end = True
        return True

    def read_annotation(self):
        at: cython.Py_ssize_t = self.pos
        while at < self.end and self.ptr[at] != 10:
            at += 1
        if at - self.pos >= MAX_LINE_BYTES:
            raise self.corrupt("an annotation without an end")
        if at >= self.end:
            return False
        self.annotations.append((self.base + self.pos, self.base + at + 1))
        self.pos = at + 1
        self.boundary = self.base + self.pos
        if not self.in_transaction:
            self.valid_end = self.boundary
        return True

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
                raise self.corrupt("a number is too long")
        if at + 2 > self.end:
            if at < self.end and self.ptr[at] != 13:
                raise self.corrupt("a number does not end its line")
            return -1
        if at == start or self.ptr[at] != 13 or self.ptr[at + 1] != 10:
            raise self.corrupt("a number does not end its line")
        self.number = value
        return at + 2

    def is_named(self, at, name):
        i: cython.Py_ssize_t
        count: cython.Py_ssize_t = self.number
        for i in range(count):
            if (self.ptr[at + i] & 0xDF) != name[i]:
                return False
        return True

    def corrupt(self, message):
        at = self.base + self.pos
        return CorruptAof(
            f"{self.name} is damaged at byte {at}: {message}",
            offset=at,
            file=self.name,
            detail=f"found {bytes(self.window[self.pos : self.pos + 24])!r}",
            hint="redis-check-aof tells more; with --fix it cuts off everything from there on, so use another copy if there is one",
        )
