"""A growing byte buffer with the few RESP pieces that the transcoders write."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memcpy


@cython.cclass
class OutBuffer:
    """`pos` bytes of `data` are filled. `ptr` is the compiled form's view of `data`."""

    def __init__(self, capacity: int) -> None:
        self.data = bytearray(max(capacity, 64))
        self.capacity = len(self.data)
        self.pos = 0
        self.exact = None
        self.bind()

    def bind(self):
        if cython.compiled:
            self.ptr = cython.cast(cython.p_uchar, cython.cast(cython.p_char, self.data))
        else:
            self.ptr = self.data

    def make_room(self, count):
        """Have at least `count` free bytes behind `pos`."""
        if self.pos + count > self.capacity:
            if self.exact is not None:
                raise OverflowError("more than the room that was asked for")
            wanted: cython.Py_ssize_t = max(self.capacity * 2, self.pos + count)
            self.data.extend(bytes(wanted - self.capacity))
            self.capacity = wanted
            self.bind()
        return 0

    def put(self, source, start, count):
        """Append `count` bytes of `source` from `start`; the caller has checked that they exist."""
        if self.pos + count > self.capacity:
            self.make_room(count)
        if cython.compiled:
            memcpy(self.ptr + self.pos, source + start, count)
        else:
            self.data[self.pos : self.pos + count] = source[start : start + count]
        self.pos += count
        return 0

    def reserve(self, count):
        """Leave `count` bytes to be filled by `put_at`; where they begin."""
        start: cython.Py_ssize_t = self.pos
        if self.pos + count > self.capacity:
            self.make_room(count)
        self.pos += count
        return start

    def put_at(self, place, source, start, count):
        """Fill a part of what was reserved."""
        if cython.compiled:
            memcpy(self.ptr + place, source + start, count)
        else:
            self.data[place : place + count] = source[start : start + count]

    def put_bytes(self, text):
        count: cython.Py_ssize_t = len(text)
        if cython.compiled:
            pointer: cython.p_uchar = text
            self.put(pointer, 0, count)
        else:
            self.put(text, 0, count)
        return 0

    def put_byte(self, value):
        if self.pos >= self.capacity:
            self.make_room(1)
        self.ptr[self.pos] = value
        self.pos += 1
        return 0

    def put_number(self, value):
        """Append a non-negative integer as decimal text."""
        digits: cython.int = 1
        rest: cython.ulonglong = value
        i: cython.int
        while rest >= 10:
            rest //= 10
            digits += 1
        if self.pos + digits > self.capacity:
            self.make_room(digits)
        rest = value
        for i in range(digits - 1, -1, -1):
            self.ptr[self.pos + i] = 48 + rest % 10
            rest //= 10
        self.pos += digits
        return 0

    def put_header(self, mark, value):
        """Append `*N` or `$N` with its line end; `mark` is the first byte."""
        self.put_byte(mark)
        self.put_number(value)
        self.put_line_end()
        return 0

    def put_line_end(self):
        if self.pos + 2 > self.capacity:
            self.make_room(2)
        self.ptr[self.pos] = 13
        self.ptr[self.pos + 1] = 10
        self.pos += 2
        return 0

    def put_bulk(self, source, start, count):
        """Append `$count`, the bytes and the line end."""
        self.put_header(36, count)
        self.put(source, start, count)
        self.put_line_end()
        return 0

    def put_bulk_bytes(self, text):
        self.put_header(36, len(text))
        self.put_bytes(text)
        self.put_line_end()
        return 0

    def put_bulk_number(self, value):
        """Append a non-negative integer as a bulk string."""
        digits: cython.int = 1
        rest: cython.ulonglong = value
        while rest >= 10:
            rest //= 10
            digits += 1
        self.put_header(36, digits)
        self.put_number(value)
        self.put_line_end()
        return 0

    def put_little_endian(self, value, width):
        i: cython.int
        if self.pos + width > self.capacity:
            self.make_room(width)
        for i in range(width):
            self.ptr[self.pos + i] = (value >> (8 * i)) & 0xFF
        self.pos += width
        return 0

    def take(self):
        """Return the filled bytes and start again at the front."""
        taken = bytes(memoryview(self.data)[: self.pos])
        self.pos = 0
        if self.capacity > 4 * 1024 * 1024:  # one huge value must not keep its memory for ever
            self.capacity = 256 * 1024
            self.data = bytearray(self.capacity)
            self.bind()
        return taken

    def begin_exact(self, capacity):
        """Until `end_exact` fill a bytes object of its own, of `capacity` bytes, which saves a copy; nothing may be in the buffer.

        More than that raises OverflowError.
        """
        if cython.compiled:
            self.exact = PyBytes_FromStringAndSize(cython.NULL, capacity)
            self.ptr = cython.cast(cython.p_uchar, PyBytes_AS_STRING(self.exact))
            self.capacity = capacity
        self.pos = 0
        return 0

    def end_exact(self):
        """Return what was filled; without a copy if it is all there was room for."""
        if not cython.compiled:
            return self.take()
        made = self.exact
        if self.pos < self.capacity:
            made = made[: self.pos]
        self.exact = None
        self.pos = 0
        self.capacity = len(self.data)
        self.bind()
        return made
