"""The layout of a segment file. Pure: bytes in, bytes out.

A segment is one header and then records, all little-endian:

    header   magic          8  "RFSPOOL" and the format's version, 0x01
             section        1  1 snapshot, 2 stream
             histories      1  how many follow the fixed part, at most 16
             -              2  zero
             base_offset    8  offset before the first record's first byte (see Chunk.offset)
             created_ms     8  wall clock
             then for each history: replid 40 (zero-padded), since 8 (valid from this offset on,
             up to and including the next one's)
             crc32          4  of everything above

    record   length         4  of the bytes it carries
             crc32          4  of the rest of the record's header, the length before it, and the bytes
             offset         8  before its first byte
             received_ms    8
             flags          4  1: is_late
             the bytes

A record checks itself, so nothing has to be flushed in order: the first one that is not whole ends the segment.
A run of zeros (a hole left by a crash) is not a record, because the CRC of zeros is not zero.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.spool.chunk import Chunk, Section

_MAGIC = b"RFSPOOL\x01"
_FIXED = struct.Struct("<8sBBHqq")
_HISTORY = struct.Struct("<40sq")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<IIqqI")
_CHECKED = struct.Struct("<IqqI")  # the record's header without its CRC
_SECTIONS = {1: Section.SNAPSHOT, 2: Section.STREAM}
_NUMBERS = {section: number for number, section in _SECTIONS.items()}

RECORD_HEADER_BYTES = _RECORD.size
MAX_HISTORIES = 16
MAX_HEADER_BYTES = _FIXED.size + MAX_HISTORIES * _HISTORY.size + _CRC.size
MAX_RECORD_BYTES = 2**31  # more than any read of a socket; a length beyond it is damage
_IS_LATE = 1

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself. histories: (replid, since), oldest first (see history.py)."""

    section: Section
    base_offset: int
    created_ms: int
    histories: tuple[tuple[str, int], ...]

    @property
    def encoded_bytes(self) -> int:
        """Size in the file."""
        return _FIXED.size + len(self.histories) * _HISTORY.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Record:
    """One whole record in a block: `length` bytes from `at` on."""

    at: int
    length: int
    offset: int
    received_ms: int
    is_late: bool


def encode_header(header: SegmentHeader) -> bytes:
    """The header's bytes."""
    histories = header.histories[-MAX_HISTORIES:]
    out = _FIXED.pack(
        _MAGIC, _NUMBERS[header.section], len(histories), 0, header.base_offset, header.created_ms
    )
    for replid, since in histories:
        out += _HISTORY.pack(replid.encode("ascii"), since)
    return out + _CRC.pack(zlib.crc32(out))


def decode_header(data: Buffer) -> SegmentHeader | None:
    """The header at the start of `data`; None if it is another file's, another version's or damaged."""
    if len(data) < _FIXED.size:
        return None
    magic, section, count, _, base_offset, created_ms = _FIXED.unpack_from(data)
    end = _FIXED.size + count * _HISTORY.size
    if magic != _MAGIC or section not in _SECTIONS or len(data) < end + _CRC.size:
        return None
    if zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        return None
    histories = []
    for at in range(_FIXED.size, end, _HISTORY.size):
        replid, since = _HISTORY.unpack_from(data, at)
        histories.append((replid.rstrip(b"\0").decode("ascii"), since))
    return SegmentHeader(_SECTIONS[section], base_offset, created_ms, tuple(histories))


def encode_records(chunks: Iterable[Chunk], max_bytes: int) -> list[bytes]:
    """Buffers to write one after the other.

    Chunks that came in the same millisecond share a record of at most `max_bytes`: small reads come in
    thousands, and a record costs more to check than its bytes.
    """
    buffers: list[bytes] = []
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if group and not (
            size + len(chunk.data) <= max_bytes
            and chunk.received_ms == group[0].received_ms
            and chunk.is_late == group[0].is_late
            and chunk.generation == group[0].generation
        ):
            _add_record(buffers, group, size)
            group, size = [], 0
        group.append(chunk)
        size += len(chunk.data)
    if group:
        _add_record(buffers, group, size)
    return buffers


def _add_record(buffers: list[bytes], group: Sequence[Chunk], size: int) -> None:
    first = group[0]
    flags = _IS_LATE if first.is_late else 0
    crc = zlib.crc32(_CHECKED.pack(size, first.offset, first.received_ms, flags))
    for chunk in group:
        crc = zlib.crc32(chunk.data, crc)
    buffers.append(_RECORD.pack(size, crc, first.offset, first.received_ms, flags))
    buffers += [chunk.data for chunk in group]


def find_records(block: memoryview) -> tuple[list[Record], int, bool]:
    """The whole records at the start of `block`, the bytes they take, and whether a bad one follows.

    False for the last when the block ends inside a record that may still be whole.
    """
    records: list[Record] = []
    at, end = 0, len(block)
    while end - at >= RECORD_HEADER_BYTES:
        length, crc, offset, received_ms, flags = _RECORD.unpack_from(block, at)
        start = at + RECORD_HEADER_BYTES
        if length > MAX_RECORD_BYTES:
            return records, at, True
        if start + length > end:
            break
        checked = zlib.crc32(_CHECKED.pack(length, offset, received_ms, flags))
        if zlib.crc32(block[start : start + length], checked) != crc:
            return records, at, True
        records.append(Record(start, length, offset, received_ms, bool(flags & _IS_LATE)))
        at = start + length
    return records, at, False


def wanted_bytes(block: Buffer) -> int:
    """How long a block that starts like `block` must be to hold its first record."""
    if len(block) < RECORD_HEADER_BYTES:
        return RECORD_HEADER_BYTES
    length: int = _RECORD.unpack_from(block)[0]
    return RECORD_HEADER_BYTES + length
