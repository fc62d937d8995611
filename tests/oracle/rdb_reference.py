"""A slow and obvious reader of whole RDB files: the second opinion for the compiled transcoder.

Written from the format's description alone and sharing no code with engine/codec, so that the same
slip is not made twice. It holds the whole file, makes an object of everything and checks the
framing, the lengths and the CRC; of a value it only finds the end. Values are found by methods named
after what stands in the file, top to bottom, in the order it stands there.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator

import anycrc

from tests.oracle.records import Record, Snapshot

CRC64 = anycrc.Model("CRC64-REDIS")


class BadRdb(ValueError):
    """The bytes are not an RDB. `offset`: where the reader stood."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at {offset}")
        self.offset = offset


class ValueReader:
    """Finds the end of values. `at` is the next byte to read."""

    def __init__(self, file: bytes, is_valkey: bool, at: int = 0) -> None:
        self.file = file
        self.at = at
        self.is_valkey = is_valkey
        self.string_encodings: Counter[str] = Counter()

    def fail(self, message: str) -> BadRdb:
        return BadRdb(message, self.at)

    def take(self, count: int) -> bytes:
        if count > len(self.file) - self.at:
            raise self.fail(f"{count} bytes wanted, {len(self.file) - self.at} left")
        piece = self.file[self.at : self.at + count]
        self.at += count
        return piece

    # --- the primitives -------------------------------------------------------------------------

    def length_or_encoding(self) -> tuple[int, bool]:
        """LEN, or the number of a string encoding with True."""
        first = self.take(1)[0]
        match first >> 6:
            case 0:
                return first & 0x3F, False
            case 1:
                return (first & 0x3F) << 8 | self.take(1)[0], False
            case 3:
                return first & 0x3F, True
        if first == 0x80:
            return int.from_bytes(self.take(4), "big"), False
        if first == 0x81:
            return int.from_bytes(self.take(8), "big"), False
        raise self.fail(f"length byte {first:#x} is not defined")

    def length(self) -> int:
        number, is_encoding = self.length_or_encoding()
        if is_encoding:
            raise self.fail("string encoding where a number must be")
        return number

    def string(self) -> bytes:
        """STR, decoded."""
        number, is_encoding = self.length_or_encoding()
        if not is_encoding:
            self.string_encodings["raw"] += 1
            return self.take(number)
        self.string_encodings[str(number)] += 1
        if number in (0, 1, 2):
            return b"%d" % int.from_bytes(self.take(1 << number), "little", signed=True)
        if number == 3:
            compressed_length = self.length()
            expected = self.length()
            return self.lzf(self.take(compressed_length), expected)
        raise self.fail(f"string encoding {number} is not defined")

    def lzf(self, compressed: bytes, expected: int) -> bytes:
        out = bytearray()
        source = iter(compressed)
        try:
            for control in source:
                if control < 32:
                    out += bytes(next(source) for _ in range(control + 1))
                else:
                    length = control >> 5
                    if length == 7:
                        length += next(source)
                    start = len(out) - ((control & 31) << 8 | next(source)) - 1
                    if start < 0:
                        raise self.fail("LZF reference before the first byte")
                    for place in range(start, start + length + 2):
                        out.append(out[place])
                if len(out) > expected:
                    raise self.fail("LZF gives more than its length says")
        except (StopIteration, RuntimeError):  # RuntimeError: StopIteration inside the generator
            raise self.fail("LZF input ends inside an item") from None
        if len(out) != expected:
            raise self.fail("LZF gives less than its length says")
        return bytes(out)

    def score_text(self) -> None:
        size = self.take(1)[0]
        if size < 253:
            self.take(size)

    def milliseconds(self) -> int:
        number: int = struct.unpack("<q", self.take(8))[0]
        return number

    def repeat(self, *readers: Callable[[], object]) -> None:
        """LEN n, then n times what these read."""
        for _ in range(self.length()):
            for reader in readers:
                reader()

    def annotated(self) -> None:
        while op := self.length():
            match op:
                case 1 | 2:
                    self.length()
                case 3:
                    self.take(4)
                case 4:
                    self.take(8)
                case 5:
                    self.string()
                case _:
                    raise self.fail(f"module annotation {op} is not defined")

    # --- the values -----------------------------------------------------------------------------

    def skip_value(self, value_type: int) -> None:
        match value_type:
            case 0 | 9 | 10 | 11 | 12 | 13 | 16 | 17 | 20:
                self.string()
            case 1 | 2 | 14:
                self.repeat(self.string)
            case 3:
                self.repeat(self.string, self.score_text)
            case 4:
                self.repeat(self.string, self.string)
            case 5:
                self.repeat(self.string, self.milliseconds)  # a double has 8 bytes as well
            case 7:
                self.length()
                self.annotated()
            case 15:
                self.stream(1)
            case 18:
                self.repeat(self.length, self.string)
            case 19:
                self.stream(2)
            case 21:
                self.stream(3)
            case 22 if self.is_valkey:
                self.repeat(self.string, self.string, self.milliseconds)
            case 64:
                self.string()
                self.milliseconds()
                self.milliseconds()
                self.repeat(self.string)
                self.repeat(self.string)
            case _ if self.is_valkey:
                raise self.fail(f"Valkey has no type {value_type}")
            case 22:
                self.repeat(self.length, self.string, self.string)
            case 23:
                self.string()
            case 24:
                self.milliseconds()
                self.repeat(self.length, self.string, self.string)
            case 25:
                self.milliseconds()
                self.string()
            case 26:
                self.stream(4)
            case _:
                raise self.fail(f"value type {value_type} cannot be read")

    def stream(self, generation: int) -> None:
        self.repeat(self.string, self.string)
        numbers_after_nodes = 3 if generation == 1 else 8
        for _ in range(numbers_after_nodes):
            self.length()
        for _ in range(self.length()):
            self.stream_group(generation)
        if generation >= 4:
            self.length()
            self.length()
            self.repeat(self.string, lambda: self.repeat(self.string, self.length, self.length))
            self.length()
            self.length()

    def stream_group(self, generation: int) -> None:
        self.string()
        self.length()
        self.length()
        if generation >= 2:
            self.length()
        self.repeat(self.stream_id, self.milliseconds, self.length)
        for _ in range(self.length()):
            self.string()
            self.milliseconds()
            if generation >= 3:
                self.milliseconds()
            self.repeat(self.stream_id)

    def stream_id(self) -> bytes:
        return self.take(16)


class RdbReader(ValueReader):
    """Reads one file. Iterate over `records()`; `snapshot` is complete when that ends."""

    def __init__(self, file: bytes) -> None:
        super().__init__(file, is_valkey=False)
        self.snapshot = Snapshot(string_encodings=self.string_encodings)

    def records(self) -> Iterator[Record]:
        snapshot = self.snapshot
        self._header()
        db = 0
        expire_ms: int | None = None
        idle: int | None = None
        freq: int | None = None
        key_meta = b""
        while True:
            start = self.at
            op = self.take(1)[0]
            if op >= 243:
                snapshot.opcodes[op] += 1
            match op:
                case 255:
                    self._footer()
                    return
                case 254:
                    db = self.length()
                case 253:
                    expire_ms = struct.unpack("<i", self.take(4))[0] * 1000
                case 252:
                    expire_ms = self.milliseconds()
                case 249:
                    freq = self.take(1)[0]
                case 248:
                    idle = self.length()
                case 243 if not self.is_valkey:
                    self.repeat(lambda: self.take(4), self.annotated)
                    key_meta += self.file[start : self.at]
                case _ if op >= 243:
                    self._description(op, db)
                case _:
                    key = self.string()
                    value_start = self.at
                    self.skip_value(op)
                    snapshot.value_types[op] += 1
                    yield Record(
                        db=db,
                        key=key,
                        value_type=op,
                        start=value_start,
                        end=self.at,
                        value=self.file[value_start : self.at],
                        expire_ms=expire_ms,
                        idle_seconds=idle,
                        freq=freq,
                        key_meta=key_meta,
                    )
                    expire_ms = idle = freq = None
                    key_meta = b""

    def _header(self) -> None:
        magic, digits = (b"VALKEY", 3) if self.file.startswith(b"VALKEY") else (b"REDIS", 4)
        if not self.file.startswith(magic):
            raise self.fail("neither REDIS nor VALKEY")
        self.take(len(magic))
        version = self.take(digits)
        if not version.isdigit():
            raise self.fail(f"version {version!r} is not a number")
        self.is_valkey = magic == b"VALKEY"
        self.snapshot.magic = magic.decode()
        self.snapshot.version = int(version)
        if self.snapshot.version not in (range(80, 81) if self.is_valkey else range(1, 14)):
            raise self.fail(f"version {version!r} is not known")

    def _description(self, op: int, db: int) -> None:
        """The opcodes that belong to no key."""
        snapshot = self.snapshot
        match op:
            case 251:
                snapshot.size_hints[db] = (self.length(), self.length())
            case 250:
                snapshot.aux.append((self.string(), self.string()))
            case 247:
                start = self.at
                self.length()
                if self.length() != 2:
                    raise self.fail("module aux: 'when' is not an unsigned number")
                self.length()
                self.annotated()
                snapshot.module_aux.append(self.file[start : self.at])
            case 246:
                name, engine = self.string(), self.string()
                description = self.string() if self.length() else None
                snapshot.pre_release_functions.append(
                    {"name": name, "engine": engine, "desc": description, "code": self.string()}
                )
            case 245:
                snapshot.functions.append(self.string())
            case 244:
                snapshot.slot_info.append((self.length(), self.length(), self.length()))
            case _:  # 243 under the VALKEY magic
                job = self.string()
                ranges = [(self.length(), self.length()) for _ in range(self.length())]
                snapshot.slot_imports.append((job, ranges))

    def _footer(self) -> None:
        snapshot = self.snapshot
        snapshot.eof_opcode_end = self.at
        if snapshot.version >= 5:
            snapshot.crc = self.take(8)
            actual = CRC64.calc(self.file[: snapshot.eof_opcode_end]).to_bytes(8, "little")
            if snapshot.crc not in (actual, bytes(8)):
                raise self.fail("checksum is wrong")
        snapshot.end = self.at


def read_rdb(file: bytes) -> tuple[list[Record], Snapshot]:
    """The keys of a whole file and everything else that is in it.

    Raises:
        BadRdb: the file ends early, or holds what the format does not have.
    """
    reader = RdbReader(file)
    return list(reader.records()), reader.snapshot


def dump_payload(value_type: int, value: bytes, rdb_version: int) -> bytes:
    """What DUMP answers on a server of this RDB version, for RESTORE."""
    body = bytes([value_type]) + value + struct.pack("<H", rdb_version)
    checksum: int = CRC64.calc(body)
    return body + checksum.to_bytes(8, "little")


def payload_value(payload: bytes, is_valkey: bool) -> tuple[int, bytes, bytes]:
    """Type, value and what follows it before the footer: KeyDB puts AUX fields there.

    Redis 8.6 begins a payload with KEY_META records where the key has such; they are passed over.

    Raises:
        BadRdb: the checksum is wrong, or the value does not end before the footer.
    """
    body, crc = payload[:-8], payload[-8:]
    if CRC64.calc(body) != int.from_bytes(crc, "little"):
        raise BadRdb("checksum of the payload is wrong", len(body))
    reader = ValueReader(body[:-2], is_valkey)
    value_type = reader.take(1)[0]
    while value_type == 243 and not is_valkey:
        reader.repeat(lambda: reader.take(4), reader.annotated)
        value_type = reader.take(1)[0]
    start = reader.at
    reader.skip_value(value_type)
    return value_type, body[start : reader.at], body[reader.at : -2]
