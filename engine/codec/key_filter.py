"""Which keys are taken along, by their names: globs as servers have them for KEYS and SCAN.

Source: util.c, stringmatchlen; db.c, scanGenericCommand and keysCommand (a lone `*` fits every name).
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if cython.compiled:
    from cython.cimports.libc.string import memcmp

from engine.selection import literal_of


def signed(byte):
    """A byte as the servers compare the ends of a range: their chars are signed."""
    return byte - 256 if byte > 127 else byte


@cython.final
@cython.cclass
class KeyGlob:
    """One glob."""

    def __init__(self, glob) -> None:
        self.glob = glob
        self.count = len(glob)
        literal = literal_of(glob)
        self.is_literal = literal is not None
        self.text = literal[0] if literal is not None else glob
        self.text_bytes = len(self.text)
        self.is_open = literal is not None and literal[1]
        self.bind()

    def bind(self):
        if cython.compiled:
            glob: cython.p_uchar = self.glob
            text: cython.p_uchar = self.text
            self.ptr = glob
            self.text_ptr = text
        else:
            self.ptr = self.glob
            self.text_ptr = self.text

    def fits(self, data, start, count):
        """Whether it fits the name of `count` bytes of `data` from `start`."""
        if not self.is_literal:
            return self.fits_glob(data, start, count)
        if count < self.text_bytes or (count > self.text_bytes and not self.is_open):
            return False
        if cython.compiled:
            return memcmp(data + start, self.text_ptr, self.text_bytes) == 0
        return bytes(data[start : start + self.text_bytes]) == self.text

    def fits_glob(self, data, start, count):
        """The same by the letter. Where a star was met, it takes one more byte each time the rest does not fit."""
        at: cython.Py_ssize_t = 0
        i: cython.Py_ssize_t = 0
        star: cython.Py_ssize_t = -1
        taken: cython.Py_ssize_t = 0
        after: cython.Py_ssize_t
        if count == 0:
            return self.count == 0
        while i < count:
            if at < self.count and self.ptr[at] == 42:
                while at < self.count and self.ptr[at] == 42:
                    at += 1
                if at == self.count:
                    return True
                star = at
                taken = i
                continue
            after = self.one_byte(at, data[start + i]) if at < self.count else -1
            if after >= 0:
                at = after
                i += 1
                continue
            if star < 0:
                return False
            at = star
            taken += 1
            i = taken
        while at < self.count and self.ptr[at] == 42:
            at += 1
        return at == self.count

    def one_byte(self, at, byte):
        """Where the glob goes on if what stands at `at`, no star, fits the byte; -1 if it does not."""
        letter: cython.int = self.ptr[at]
        if letter == 63:
            return at + 1
        if letter == 91:
            return self.one_of(at + 1, byte)
        if letter == 92 and at + 1 < self.count:
            at += 1
        return at + 1 if self.ptr[at] == byte else -1

    def one_of(self, at, byte):
        """The same for a class whose `[` is read; one without an end ends with the glob."""
        first: cython.int
        last: cython.int
        wanted: cython.int = signed(byte)
        is_negated: cython.bint = at < self.count and self.ptr[at] == 94
        is_in: cython.bint = False
        if is_negated:
            at += 1
        while at < self.count:
            if self.ptr[at] == 92 and at + 1 < self.count:
                at += 1
                if self.ptr[at] == byte:
                    is_in = True
            elif self.ptr[at] == 93:
                break
            elif at + 2 < self.count and self.ptr[at + 1] == 45:
                first = signed(self.ptr[at])
                last = signed(self.ptr[at + 2])
                if (first <= wanted <= last) or (last <= wanted <= first):
                    is_in = True
                at += 2
            elif self.ptr[at] == byte:
                is_in = True
            at += 1
        if is_in == is_negated:
            return -1
        return min(at + 1, self.count)


@cython.final
@cython.cclass
class KeyFilter:
    """includes, excludes: globs (bytes). A name goes if it fits one of the first, or there are none, and none of the others."""

    def __init__(self, includes, excludes) -> None:
        self.includes = [KeyGlob(it) for it in includes]
        self.excludes = [KeyGlob(it) for it in excludes]
        self.include_count = len(self.includes)
        self.exclude_count = len(self.excludes)

    def takes(self, data, start, count):
        """Whether the name of `count` bytes of `data` from `start` goes."""
        i: cython.Py_ssize_t
        glob: KeyGlob
        is_in: cython.bint = self.include_count == 0
        for i in range(self.include_count):
            glob = self.includes[i]
            if glob.fits(data, start, count):
                is_in = True
                break
        if not is_in:
            return False
        for i in range(self.exclude_count):
            glob = self.excludes[i]
            if glob.fits(data, start, count):
                return False
        return True

    def takes_name(self, name):
        """The same for bytes."""
        if cython.compiled:
            pointer: cython.p_uchar = name
            return self.takes(pointer, 0, len(name))
        return self.takes(name, 0, len(name))
