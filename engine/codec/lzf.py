"""LZF, as the servers write strings of more than 20 bytes (lzf_d.c, lzf_decompress).

    000nnnnn                      n + 1 literal bytes follow
    LLLooooo [more] oooooooo      copy L + 2 bytes (L = 7: plus `more`) from o + 1 back in the output

A dump says itself how much comes out, and may lie. So the items are walked once, counting only, and
memory is taken when they have been found to give exactly what was said.
"""

from __future__ import annotations

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize

from engine.errors import CorruptRdb

FARTHEST = 8192  # what a reference may go back
LONGEST = 264  # what an item may give


def lzf_measure(
    source: bytes,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    expected: cython.ulonglong,
) -> cython.int:
    """Walk the items in source[start:end] without making output.

    Raises:
        CorruptRdb: they do not give exactly `expected` bytes, or point before the first one. The
            offset counts in `source`.
    """
    if start < 0 or end > len(source) or start > end:
        raise CorruptRdb("LZF: input lies outside its string", offset=start)
    # The best item there is makes 264 bytes from 3. Written so that nothing can overflow.
    if expected > 32 and (expected - 32) // 88 > cython.cast(cython.ulonglong, end - start):
        raise CorruptRdb(
            f"LZF: {end - start} bytes cannot give the {expected} that are said", offset=start
        )
    if expected == 0 and end > start:
        raise CorruptRdb("LZF: no output is said, but there is input", offset=start)
    at: cython.Py_ssize_t = start
    made: cython.ulonglong = 0
    control: cython.Py_ssize_t
    back: cython.Py_ssize_t
    length: cython.Py_ssize_t
    while at < end:
        control = source[at]
        at += 1
        if control < 32:
            length = control + 1
            if length > end - at:
                raise CorruptRdb("LZF: literal bytes end early", offset=at - 1)
            at += length
        else:
            length = control >> 5
            if length == 7:
                if at >= end:
                    raise CorruptRdb("LZF: input ends inside a length", offset=at - 1)
                length += source[at]
                at += 1
            if at >= end:
                raise CorruptRdb("LZF: input ends inside a reference", offset=at - 1)
            back = ((control & 31) << 8 | source[at]) + 1
            at += 1
            length += 2
            if cython.cast(cython.ulonglong, back) > made:
                raise CorruptRdb("LZF: reference before the first byte", offset=at - 1)
        made += length
        if made > expected:
            raise CorruptRdb(f"LZF: more comes out than the {expected} bytes said", offset=at - 1)
    if made != expected:
        raise CorruptRdb(f"LZF: {made} bytes come out, {expected} are said", offset=end)
    return 0


def lzf_expand(
    source: bytes,
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    expected: cython.ulonglong,
) -> bytes:
    """Return the `expected` bytes that source[start:end] stands for.

    Raises:
        CorruptRdb: as lzf_measure.
    """
    lzf_measure(source, start, end, expected)
    at: cython.Py_ssize_t = start
    made: cython.Py_ssize_t = 0
    control: cython.Py_ssize_t
    back: cython.Py_ssize_t
    length: cython.Py_ssize_t
    i: cython.Py_ssize_t
    # Compiled, the output is written where it stays: a copy would double the memory of the largest
    # values. lzf_measure has shown that every index below lies inside.
    out: bytes
    room: cython.p_uchar
    if cython.compiled:
        out = PyBytes_FromStringAndSize(cython.NULL, expected)
        room = cython.cast(cython.p_uchar, PyBytes_AS_STRING(out))
    else:
        room = bytearray(expected)
    while at < end:
        control = source[at]
        at += 1
        if control < 32:
            length = control + 1
            if cython.compiled:
                for i in range(length):
                    room[made + i] = source[at + i]
            else:
                room[made : made + length] = source[at : at + length]
            at += length
        else:
            length = control >> 5
            if length == 7:
                length += source[at]
                at += 1
            back = ((control & 31) << 8 | source[at]) + 1
            at += 1
            length += 2
            if cython.compiled:
                for i in range(length):
                    room[made + i] = room[made + i - back]
            else:
                piece = room[made - back : made]
                if back < length:  # the copy runs into what it is writing: a pattern
                    piece *= length // back + 1
                room[made : made + length] = piece[:length]
        made += length
    return out if cython.compiled else bytes(room)


def lzf_decompress(source: bytes, expected: cython.ulonglong) -> bytes:
    """Return the `expected` bytes that `source` stands for.

    Raises:
        CorruptRdb: it stands for something else; the offset counts in `source`.
    """
    return lzf_expand(source, 0, len(source), expected)


@cython.cclass
class LzfStream:
    """A string that is too long to be held: bytes in as they come, pieces of at least `piece_bytes` out.

    A reference goes back 8,192 bytes at most, so that much of the output is kept. made: bytes given out and waiting.
    """

    def __init__(self, expected: cython.ulonglong, piece_bytes: cython.Py_ssize_t) -> None:
        self.expected = expected
        self.piece_bytes = piece_bytes
        self.made = 0
        self.room = bytearray(FARTHEST + piece_bytes + LONGEST)
        self.filled = self.given = 0

    def take(
        self, source: bytearray, start: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Walk whole items of source[start:end] until a piece is full. Returns where it stopped.

        Raises:
            CorruptRdb: as lzf_measure; the offset counts in `source`.
        """
        at: cython.Py_ssize_t = start
        item: cython.Py_ssize_t
        control: cython.Py_ssize_t
        back: cython.Py_ssize_t
        length: cython.Py_ssize_t
        i: cython.Py_ssize_t
        filled: cython.Py_ssize_t = self.filled
        full: cython.Py_ssize_t = self.given + self.piece_bytes
        room: cython.p_uchar
        data: cython.p_uchar
        if start < 0 or end > len(source):
            raise CorruptRdb("LZF: input lies outside its string", offset=start)
        if cython.compiled:
            room = cython.cast(cython.p_uchar, cython.cast(cython.p_char, self.room))
            data = cython.cast(cython.p_uchar, cython.cast(cython.p_char, source))
        else:
            room = self.room
            data = source
        while at < end and filled < full:
            item = at
            control = data[at]
            at += 1
            if control < 32:
                length = control + 1
                if length > end - at:
                    at = item
                    break
                for i in range(length):
                    room[filled + i] = data[at + i]
                at += length
            else:
                length = control >> 5
                if end - at < (2 if length == 7 else 1):
                    at = item
                    break
                if length == 7:
                    length += data[at]
                    at += 1
                back = ((control & 31) << 8 | data[at]) + 1
                at += 1
                length += 2
                if back > filled:
                    raise CorruptRdb("LZF: reference before the first byte", offset=item)
                for i in range(length):
                    room[filled + i] = room[filled + i - back]
            filled += length
            self.made += length
            if self.made > self.expected:
                raise CorruptRdb(
                    f"LZF: more comes out than the {self.expected} bytes said", offset=item
                )
        self.filled = filled
        return at

    def waiting(self) -> cython.Py_ssize_t:
        """Bytes that have come out and were not given."""
        return self.filled - self.given

    def give(self) -> bytes:
        """Those bytes."""
        keep: cython.Py_ssize_t = min(self.filled, FARTHEST)
        piece: bytes = bytes(self.room[self.given : self.filled])
        self.room[:keep] = bytes(self.room[self.filled - keep : self.filled])
        self.filled = self.given = keep
        return piece
