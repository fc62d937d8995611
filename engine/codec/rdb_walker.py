"""Measures RDB records in any chunking: where each begins and ends, without looking inside values.

The walker runs the programs of rdb_grammar over a growing window of bytes. Every operation either moves the
position past what it needs or leaves it where it was and asks for more, so a short read costs one operation
and nothing is reported twice. There is no recursion, and nothing is allocated by a number in the file: a
length only says how many bytes must arrive.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from math import isnan

from engine.codec import rdb_grammar as grammar
from engine.codec.crc64 import crc64
from engine.codec.lzf import lzf_decompress
from engine.errors import CorruptRdb, UnsupportedByTarget

if not cython.compiled:
    NEED_DATA = 0
    RECORD = 1
    FINISHED = 2

PROGRAM = grammar.PROGRAM
STARTS = grammar.STARTS
FIRST_VERSION_WITH_CRC = grammar.FIRST_VERSION_WITH_CRC
HEADER_BYTES = 9
LZF_HINT = "the snapshot is damaged: take a new one"


@cython.cclass
class RdbWalker:
    """Feed chunks, call `step`: NEED_DATA, RECORD (its bytes lie in [record, pos)) or FINISHED."""

    def __init__(self, value_limit_bytes: int) -> None:
        self.window = bytearray()
        self.base = 0
        self.pos = 0
        self.end = 0
        self.record = 0
        self.value_start = 0
        self.pc = 0
        self.depth = 0
        self.op = 0
        self.is_empty = False
        self.is_naming = False
        self.state = 0
        self.version = 0
        self.is_valkey = False
        self.crc = 0
        self.crc_pos = 0
        self.value_limit = value_limit_bytes
        self.wanted = 0
        self.skip_left = 0
        self.held_key = None
        self.program = PROGRAM
        if not cython.compiled:
            self.starts = [0] * 256
            self.remaining = [0] * 4
            self.body = [0] * 4
        self.bind()

    def bind(self):
        if cython.compiled:
            self.ptr = cython.cast(cython.p_uchar, cython.cast(cython.p_char, self.window))
        else:
            self.ptr = self.window

    def feed_bytes(self, chunk):
        """Add bytes behind the window; what lies before the current record is let go."""
        keep: cython.Py_ssize_t = self.record
        if keep > 0:
            self.add_to_crc(keep)
            del self.window[:keep]
            self.base += keep
            self.pos -= keep
            self.value_start -= keep
            self.crc_pos -= keep
            self.record = 0
        self.wanted = 0
        self.window += chunk
        self.end = len(self.window)
        self.bind()

    def add_to_crc(self, upto):
        """Bring the running checksum up to window position `upto`."""
        if upto > self.crc_pos:
            with memoryview(self.window) as view:
                self.crc = crc64(view[self.crc_pos : upto], self.crc)
            self.crc_pos = upto

    def corrupt(self, message, at):
        """The error, with the place and, inside a key's value, the key."""
        where = ""
        if (
            self.state == 2
            and self.op < 243
            and (self.value_start > self.record or self.held_key is not None)
            and not self.is_naming
        ):
            self.is_naming = True  # a key that is broken itself must not be asked for again
            try:
                where = f"key {self.key_text()!r}: "
            except CorruptRdb:
                pass
            self.is_naming = False
        return CorruptRdb(
            f"corrupt RDB at byte {self.base + at}: {where}{message}", offset=self.base + at
        )

    def step(self):
        """Go on to the end of the next record.

        Raises:
            CorruptRdb: the bytes cannot be an RDB of a known version.
            UnsupportedByTarget: a value over the size limit.
        """
        op: cython.int
        start: cython.int
        if self.state == 3:
            return FINISHED
        if self.state == 0:
            if self.end - self.pos < HEADER_BYTES:
                return NEED_DATA
            self.read_header()
            self.state = 1
        if self.state == 1:
            self.record = self.pos
            if self.pos >= self.end:
                return NEED_DATA
            op = self.ptr[self.pos]
            start = self.starts[op]
            if start == 0:
                raise self.unknown_record(op)
            self.op = op
            self.pc = start
            self.depth = 0
            self.is_empty = False
            self.pos += 1
            self.state = 2
        if self.run_program() == 0:
            if self.pos - self.record > self.value_limit:
                raise self.too_large(self.pos - self.record)
            return NEED_DATA
        if self.pos - self.record > self.value_limit:
            raise self.too_large(self.pos - self.record)
        if self.op == 255:
            return self.read_end()
        self.state = 1
        return RECORD

    def read_header(self):
        head = bytes(self.window[self.pos : self.pos + HEADER_BYTES])
        if head.startswith(b"REDIS") and head[5:].isdigit():
            self.version = int(head[5:])
            self.is_valkey = False
            known = self.version in grammar.KNOWN_REDIS_VERSIONS
            family = "redis-14" if self.version >= 14 else "redis"
        elif head.startswith(b"VALKEY") and head[6:].isdigit():
            self.version = int(head[6:])
            self.is_valkey = True
            known = self.version in grammar.KNOWN_VALKEY_VERSIONS
            family = "valkey"
        else:
            raise self.corrupt(f"not an RDB: it begins with {head!r}", self.pos)
        if not known:
            raise self.corrupt(
                f"RDB version {head.decode()} is not known to this redis-ferry", self.pos
            )
        i: cython.int
        table = STARTS[family]
        for i in range(256):
            self.starts[i] = table[i]
        self.pos += HEADER_BYTES

    def unknown_record(self, op):
        at = self.pos
        if op == grammar.TYPE_MODULE_PRE_GA:
            return self.corrupt(
                "a module value of a 4.0 release candidate has no marked end and cannot be read", at
            )
        kind = "opcode" if op >= grammar.FIRST_OPCODE else "value type"
        family = "VALKEY" if self.is_valkey else "REDIS"
        return self.corrupt(
            f"{kind} {op} is not defined for {family} RDB version {self.version}", at
        )

    def too_large(self, count):
        key = self.key_text() if self.value_start > self.record else b""
        return UnsupportedByTarget(
            f"the value of key {key!r} has at least {count} bytes, over the limit of {self.value_limit}",
            hint="values so large cannot be sent in one command yet; leave the key out or split it",
        )

    def read_end(self):
        if self.version < FIRST_VERSION_WITH_CRC:
            self.state = 3
            return FINISHED
        if self.end - self.pos < 8:
            return NEED_DATA
        self.add_to_crc(self.pos)
        stored = int.from_bytes(self.window[self.pos : self.pos + 8], "little")
        if stored not in (0, self.crc):
            raise self.corrupt(
                f"checksum is {stored:016x}, the data give {self.crc:016x}", self.pos
            )
        self.pos += 8
        self.state = 3
        return FINISHED

    def read_length(self, at):
        """Read a plain LEN at window position `at` into `number`; its end, or -1 when bytes are missing."""
        first: cython.int
        i: cython.int
        value: cython.ulonglong
        if at >= self.end:
            return -1
        first = self.ptr[at]
        if first < 0x40:
            self.number = first
            return at + 1
        if first < 0x80:
            if at + 2 > self.end:
                return -1
            self.number = ((first & 0x3F) << 8) | self.ptr[at + 1]
            return at + 2
        if first == 0x80:
            if at + 5 > self.end:
                return -1
            value = 0
            for i in range(1, 5):
                value = (value << 8) | self.ptr[at + i]
            self.number = value
            return at + 5
        if first == 0x81:
            if at + 9 > self.end:
                return -1
            value = 0
            for i in range(1, 9):
                value = (value << 8) | self.ptr[at + i]
            self.number = value
            return at + 9
        if first >= 0xC0:
            raise self.corrupt("a string encoding stands where a length is expected", at)
        raise self.corrupt(f"length byte 0x{first:02x} is not defined", at)

    def skip_string(self, at):
        """End of the STR at `at`, or -1 when bytes are missing. Sets `text_start` (raw strings only)."""
        first: cython.int
        after: cython.Py_ssize_t
        packed: cython.ulonglong
        if at >= self.end:
            return -1
        first = self.ptr[at]
        if first < 0x40:
            self.text_start = at + 1
            after = at + 1 + first
            return after if after <= self.end else -1
        if first < 0xC0:
            after = self.read_length(at)
            if after < 0:
                return -1
            if self.number > cython.cast(cython.ulonglong, self.value_limit):
                self.check_length(self.number, at)
            self.text_start = after
            after += self.number
            if after <= self.end:
                return after
            self.wanted = after
            return -1
        if first <= 0xC2:
            after = at + 1 + (1 << (first - 0xC0))
            return after if after <= self.end else -1
        if first != 0xC3:
            raise self.corrupt(f"string encoding {first & 0x3F} is not defined", at)
        after = self.read_length(at + 1)
        if after < 0:
            return -1
        packed = self.number
        after = self.read_length(after)
        if after < 0:
            return -1
        # LZF gives at most 264 bytes from 3, so this bound needs no memory to check.
        if packed == 0 or self.number > packed * 88 + 32 or self.number == 0:
            raise self.corrupt(f"LZF: {packed} bytes cannot give {self.number}", at)
        if packed > cython.cast(cython.ulonglong, self.value_limit):
            self.check_length(packed, at)
        self.text_start = after
        after += packed
        if after <= self.end:
            return after
        self.wanted = after
        return -1

    def check_length(self, length, at):
        if length > 1 << 40:
            raise self.corrupt(f"a string of {length} bytes cannot be", at)
        raise self.too_large(length)

    def run_program(self):
        """Run operations from `pc` until the record ends (1) or bytes are missing (0)."""
        code: cython.int
        after: cython.Py_ssize_t
        at: cython.Py_ssize_t = self.pos
        pc: cython.int = self.pc
        while True:
            code = self.program[pc]
            after = at
            if code == 2:  # STR
                after = self.skip_string(at)
                if after < 0:
                    break
                pc += 1
            elif code == 5:  # AGAIN
                self.remaining[self.depth - 1] -= 1
                if self.remaining[self.depth - 1] > 0:
                    pc = self.body[self.depth - 1]
                else:
                    self.depth -= 1
                    pc += 1
            elif code == 3:  # FIX
                after = at + self.program[pc + 1]
                if after > self.end:
                    after = -1
                    break
                pc += 2
            elif code == 1:  # LEN
                after = self.read_length(at)
                if after < 0:
                    break
                pc += 1
            elif code == 8:  # KEY
                after = self.skip_string(at)
                if after < 0:
                    break
                self.value_start = after
                pc += 1
            elif code == 4:  # LOOP
                after = self.read_length(at)
                if after < 0:
                    break
                if self.number == 0:
                    if self.depth == 0 and at == self.value_start:
                        self.is_empty = True
                    pc = self.program[pc + 1] | (self.program[pc + 2] << 8)
                else:
                    self.remaining[self.depth] = self.number
                    self.body[self.depth] = pc + 3
                    self.depth += 1
                    pc += 3
            elif code == 0:  # END
                self.pos = at
                self.pc = pc
                return 1
            elif code == 11:  # DOUBLE
                after = at + 8
                if after > self.end:
                    after = -1
                    break
                if (self.ptr[at + 7] & 0x7F) == 0x7F and (self.ptr[at + 6] & 0xF0) == 0xF0:
                    self.check_score(at)
                pc += 1
            elif code == 6:  # SCORE
                after = self.skip_score(at)
                if after < 0:
                    break
                pc += 1
            elif code == 7:  # ANNOTATED
                after = self.skip_annotated(at)
                if after < 0:
                    break
                if self.number == 0:
                    pc += 1
            elif code == 9:  # OPTIONAL_STR
                after = self.read_length(at)
                if after < 0:
                    break
                if self.number != 0:
                    after = self.skip_string(after)
                    if after < 0:
                        break
                pc += 1
            else:  # MODULE_WHEN
                after = self.read_length(at)
                if after < 0:
                    break
                if self.number != 2:
                    raise self.corrupt(
                        "module aux: the time of its saving has the wrong annotation", at
                    )
                after = self.read_length(after)
                if after < 0:
                    break
                pc += 1
            at = after
        self.pos = at
        self.pc = pc
        return 0

    def check_score(self, at):
        """Infinity is a score, NaN is none."""
        mantissa = int.from_bytes(self.window[at : at + 7], "little") & ((1 << 52) - 1)
        if mantissa != 0:
            raise self.corrupt("a score is not a number", at)

    def skip_score(self, at):
        """A score of type 3: one byte of length and its text, or 253, 254, 255 for NaN, +inf, -inf."""
        if at >= self.end:
            return -1
        count: cython.Py_ssize_t = self.ptr[at]
        if count == 253:
            raise self.corrupt("a score is not a number", at)
        if count > 253:
            return at + 1
        if at + 1 + count > self.end:
            return -1
        text = bytes(self.window[at + 1 : at + 1 + count])
        try:
            score = float(text)
        except ValueError:
            score = float("nan")
        if isnan(score) or text.strip() != text or b"_" in text:
            raise self.corrupt(f"a score is no number: {text!r}", at)
        return at + 1 + count

    def skip_annotated(self, at):
        """One annotated module value; leaves its annotation in `number` (0 is the end of them)."""
        annotation: cython.ulonglong
        after: cython.Py_ssize_t = self.read_length(at)
        if after < 0:
            return -1
        annotation = self.number
        if annotation == 1 or annotation == 2:
            after = self.read_length(after)
        elif annotation == 3:
            after = after + 4 if after + 4 <= self.end else -1
        elif annotation == 4:
            after = after + 8 if after + 8 <= self.end else -1
        elif annotation == 5:
            after = self.skip_string(after)
        elif annotation != 0:
            raise self.corrupt(f"module value: annotation {annotation} is not defined", at)
        if after < 0:
            return -1
        self.number = annotation
        return after

    def text_at(self, at):
        """The bytes of the complete STR at `at`, decoded; the walker stands behind it afterwards."""
        first: cython.int
        after: cython.Py_ssize_t = self.skip_string(at)
        if after < 0:
            raise self.corrupt("string is cut short", at)
        first = self.ptr[at]
        self.text_end = after
        if first < 0xC0:
            return bytes(self.window[self.text_start : after])
        if first == 0xC3:
            length = self.number
            try:
                return lzf_decompress(bytes(self.window[self.text_start : after]), length)
            except CorruptRdb as error:
                raise self.corrupt(error.message, at) from error
        return b"%d" % int.from_bytes(self.window[at + 1 : after], "little", signed=True)

    def key_text(self):
        """The key of the current key record."""
        if self.held_key is not None:
            return self.held_key
        return self.text_at(self.record + 1)

    # ---- a value that is not held: `record` follows `pos`, so that its bytes go; `held_key` names it

    def begin_skipping(self):
        """Stand before the value of the current key record, to pass over it with `skip_some`."""
        self.pos = self.value_start
        self.pc = self.starts[self.op] + 1
        self.depth = 0
        self.skip_left = 0

    def skip_items(self, left):
        """The same between the items of a value that has a LOOP of them; `left` are still to come."""
        pc: cython.int = self.starts[self.op] + 1
        while self.program[pc] != 4:  # the items' LOOP, behind a FIX at most
            pc += 2 if self.program[pc] == 3 else 1
        self.skip_left = 0
        self.depth = 0
        self.pc = self.program[pc + 1] | (self.program[pc + 2] << 8)
        if left > 0:
            self.remaining[0] = left
            self.body[0] = pc + 3
            self.pc = pc + 3
            self.depth = 1

    def skip_some(self):
        """Pass over what is there of the value, and let its bytes go: 1 at its end, 0 when more must be fed."""
        count: cython.Py_ssize_t = min(self.skip_left, self.end - self.pos)
        code: cython.int
        found: cython.int = 0
        self.pos += count
        self.skip_left -= count
        if self.skip_left == 0:
            self.wanted = 0
            found = self.run_program()
            if found == 0 and self.wanted > self.end:
                self.skip_left = self.wanted - self.end
                self.pos = self.end
                code = self.program[self.pc]
                if code == 2 or code == 9:  # an ANNOTATED is gone on with until its end mark
                    self.pc += 1
        self.record = self.pos
        return found
