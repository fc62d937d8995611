"""A few hundred command names with a number for each, looked up in bytes without making an object of them."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

if not cython.compiled:
    ROOM = 4096
    NAME_BYTES = 64  # longer ones no server has; they count as unknown
    UNKNOWN = -1


@cython.cclass
class NameTable:
    """Numbers by command name, in any case.

    entries: (name in upper case, number from 0 to 127). At most half of the room is used, so a search is short, and most
    of what is not here is seen by its length and first letter.
    """

    def __init__(self, entries) -> None:
        if not cython.compiled:
            self.starts = [0] * ROOM
            self.sizes = [0] * ROOM
            self.numbers = [0] * ROOM
            self.beginnings = [0] * (NAME_BYTES + 1)
        i: cython.Py_ssize_t
        for i in range(ROOM):
            self.sizes[i] = 0
        for i in range(NAME_BYTES + 1):
            self.beginnings[i] = 0
        texts = []
        start: cython.Py_ssize_t = 0
        for text, number in entries:
            if not 0 < len(text) <= NAME_BYTES:
                continue
            if len(texts) >= ROOM // 2:
                raise ValueError(f"more than {ROOM // 2} command names")
            i = place_of(text, 0, len(text))
            while self.sizes[i] != 0:
                i = (i + 1) & (ROOM - 1)
            self.starts[i] = start
            self.sizes[i] = len(text)
            self.numbers[i] = number
            self.beginnings[len(text)] |= beginning(text[0])
            start += len(text)
            texts.append(text)
        self.names = b"".join(texts)

    def number_of(self, data, start, size):
        """The number of the name of `size` bytes that begins at data[start]; -1: it is not here."""
        place: cython.Py_ssize_t
        i: cython.Py_ssize_t
        at: cython.Py_ssize_t
        names: cython.p_uchar = self.names
        if size <= 0 or size > NAME_BYTES or not self.beginnings[size] & beginning(data[start]):
            return UNKNOWN
        place = place_of(data, start, size)
        while self.sizes[place] != 0:
            if self.sizes[place] == size:
                at = self.starts[place]
                i = 0
                # Letters differ from their other case in one bit; the names here are in upper case.
                while i < size and upper(data[start + i]) == names[at + i]:
                    i += 1
                if i == size:
                    return self.numbers[place]
            place = (place + 1) & (ROOM - 1)
        return UNKNOWN


def place_of(data, start, size):
    """Where the search for a name begins."""
    code: cython.uint = 0
    i: cython.Py_ssize_t
    for i in range(start, start + size):
        if cython.compiled:
            code = code * 31 + (data[i] & 0xDF)
        else:
            code = (code * 31 + (data[i] & 0xDF)) & 0xFFFFFFFF
    return (code ^ (code >> 12)) & (ROOM - 1)


def upper(byte):
    return byte - 32 if 97 <= byte <= 122 else byte


def beginning(byte):
    """A bit for a name's first byte, the same in both cases."""
    bit: cython.uint = 1
    return bit << (byte & 31)
