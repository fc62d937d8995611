"""The container readers against containers written here, and against what servers say is in theirs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import packed
from engine.errors import CorruptRdb
from tests.codec.interpreted_form import interpreted
from tests.corpus_files import OpenDump, open_dumps, text_or_digest
from tests.oracle.rdb_reference import ValueReader, read_rdb
from tests.oracle.records import Record

INTERPRETED = interpreted("packed")
FORMS = [pytest.param(packed, id="as-built"), pytest.param(INTERPRETED, id="interpreted")]
READERS = ("listpack_items", "ziplist_items", "intset_items", "zipmap_items")

ELEMENTS = st.lists(
    st.one_of(
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers(-10_000, 10_000),
        st.binary(max_size=80),
        st.integers(0, 5000).map(lambda size: b"x" * size),
    ),
    max_size=20,
)


# --- writers, written from the format alone ---------------------------------------------------------


def listpack(elements: list[int | bytes]) -> bytes:
    body = b"".join(_listpack_entry(element) for element in elements)
    return struct.pack("<IH", 7 + len(body), min(len(elements), 65535)) + body + b"\xff"


def _listpack_entry(element: int | bytes) -> bytes:
    entry = _listpack_integer(element) if isinstance(element, int) else _listpack_text(element)
    size, back = len(entry), b""
    while True:
        back = bytes([size & 127 | (128 if back else 0)]) + back
        size >>= 7
        if not size:
            break
    # Read from the right: the lowest bits stand last, and `more` is set on all but the first.
    digits = [byte & 127 for byte in back]
    return entry + bytes([digits[0]] + [digit | 128 for digit in digits[1:]])


def _listpack_integer(number: int) -> bytes:
    if 0 <= number < 128:
        return bytes([number])
    if -4096 <= number < 4096:
        return bytes([0xC0 | (number >> 8 & 0x1F), number & 255])
    for code, width in ((0xF1, 2), (0xF2, 3), (0xF3, 4), (0xF4, 8)):
        if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
            return bytes([code]) + number.to_bytes(width, "little", signed=True)
    raise AssertionError(number)


def _listpack_text(text: bytes) -> bytes:
    if len(text) < 64:
        return bytes([0x80 | len(text)]) + text
    if len(text) < 4096:
        return bytes([0xE0 | len(text) >> 8, len(text) & 255]) + text
    return b"\xf0" + struct.pack("<I", len(text)) + text


def ziplist(elements: list[int | bytes]) -> bytes:
    body, previous, tail = b"", 0, 10
    for element in elements:
        entry = bytes([previous]) if previous < 254 else b"\xfe" + struct.pack("<I", previous)
        entry += _ziplist_integer(element) if isinstance(element, int) else _ziplist_text(element)
        tail, previous = 10 + len(body), len(entry)
        body += entry
    header = struct.pack("<IIH", 11 + len(body), tail, min(len(elements), 65535))
    return header + body + b"\xff"


def _ziplist_integer(number: int) -> bytes:
    if 0 <= number <= 12:
        return bytes([0xF1 + number])
    for code, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
            return bytes([code]) + number.to_bytes(width, "little", signed=True)
    raise AssertionError(number)


def _ziplist_text(text: bytes) -> bytes:
    if len(text) < 64:
        return bytes([len(text)]) + text
    if len(text) < 16384:
        return struct.pack(">H", 0x4000 | len(text)) + text
    return b"\x80" + struct.pack(">I", len(text)) + text


def intset(numbers: list[int], width: int) -> bytes:
    packed_numbers = b"".join(number.to_bytes(width, "little", signed=True) for number in numbers)
    return struct.pack("<II", width, len(numbers)) + packed_numbers


def zipmap(pairs: list[tuple[bytes, bytes, int]]) -> bytes:
    def length(text: bytes) -> bytes:
        return bytes([len(text)]) if len(text) < 254 else b"\xfe" + struct.pack("<I", len(text))

    body = b"".join(
        length(field) + field + length(value) + bytes([unused]) + value + b"?" * unused
        for field, value, unused in pairs
    )
    return bytes([min(len(pairs), 254)]) + body + b"\xff"


# --- what was written is read -----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@given(elements=ELEMENTS)
def test_listpack_elements_come_back(form: Any, elements: list[int | bytes]) -> None:
    assert elements == form.listpack_items(listpack(elements))


@pytest.mark.parametrize("form", FORMS)
@given(elements=ELEMENTS)
def test_ziplist_elements_come_back(form: Any, elements: list[int | bytes]) -> None:
    assert elements == form.ziplist_items(ziplist(elements))


@pytest.mark.parametrize("form", FORMS)
@given(numbers=st.sets(st.integers(-(1 << 63), (1 << 63) - 1)), width=st.sampled_from([2, 4, 8]))
def test_intset_numbers_come_back(form: Any, numbers: set[int], width: int) -> None:
    limit = 1 << 8 * width - 1
    fitting = sorted(number for number in numbers if -limit <= number < limit)

    assert fitting == form.intset_items(intset(fitting, width))


@pytest.mark.parametrize("form", FORMS)
@given(
    pairs=st.lists(
        st.tuples(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 4)), max_size=8
    )
)
def test_zipmap_pairs_come_back(form: Any, pairs: list[tuple[bytes, bytes, int]]) -> None:
    flat = [text for field, value, _ in pairs for text in (field, value)]

    assert flat == form.zipmap_items(zipmap(pairs))


@pytest.mark.parametrize("size", [252, 253, 254, 255, 256, 16383, 16384])
@pytest.mark.parametrize("form", FORMS)
def test_sizes_around_the_long_forms_come_back(form: Any, size: int) -> None:
    elements: list[int | bytes] = [b"a" * size, b"b", b"c" * size, 7]

    assert elements == form.ziplist_items(ziplist(elements))
    assert elements == form.listpack_items(listpack(elements))


@pytest.mark.parametrize("form", FORMS)
def test_more_than_65535_elements_are_counted(form: Any) -> None:
    elements: list[int | bytes] = [1] * 70_000

    assert elements == form.listpack_items(listpack(elements))
    assert elements == form.ziplist_items(ziplist(elements))
    assert len(form.zipmap_items(zipmap([(b"f", b"v", 0)] * 300))) == 600


# --- what is broken is refused, and the same by both forms --------------------------------------------


def _answer(read: Callable[[bytes], list[object]], body: bytes) -> object:
    try:
        return read(body)
    except CorruptRdb as caught:
        error = caught
    assert 0 <= error.offset <= max(len(body), 1)
    return (error.message, error.offset)


@given(
    elements=ELEMENTS,
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_container_is_refused_or_read_alike(
    elements: list[int | bytes], place: float, byte: int, cut: bool
) -> None:
    numbers = sorted({element for element in elements if isinstance(element, int)})
    texts = [element for element in elements if isinstance(element, bytes)]
    bodies = (
        listpack(elements),
        ziplist(elements),
        intset(numbers, 8),
        zipmap([(text, text, 1) for text in texts]),
    )
    for name, body in zip(READERS, bodies, strict=True):
        at = int(place * len(body))
        damaged = body[:at] if cut else body[:at] + bytes([byte]) + body[at + 1 :]

        assert _answer(getattr(INTERPRETED, name), damaged) == _answer(
            getattr(packed, name), damaged
        )


@given(body=st.binary(max_size=60))
@pytest.mark.parametrize("name", READERS)
def test_noise_raises_nothing_but_corrupt_rdb(name: str, body: bytes) -> None:
    assert _answer(getattr(INTERPRETED, name), body) == _answer(getattr(packed, name), body)


@pytest.mark.parametrize("name", READERS)
def test_every_cut_is_refused(name: str) -> None:
    body = {
        "listpack_items": listpack([1, b"two", 3000, 1 << 40]),
        "ziplist_items": ziplist([1, b"two", 3000, 1 << 40]),
        "intset_items": intset([1, 2, 3], 4),
        "zipmap_items": zipmap([(b"f", b"v", 0), (b"g", b"w", 2)]),
    }[name]

    for cut in range(len(body)):
        with pytest.raises(CorruptRdb):
            getattr(packed, name)(body[:cut])


# --- what servers wrote -----------------------------------------------------------------------------


def _text(element: object) -> bytes:
    return b"%d" % element if isinstance(element, int) else bytes(element)  # type: ignore[call-overload]


def _members(record: Record) -> list[bytes]:
    """All elements of a packed value, as texts, in order."""
    reader = ValueReader(record.value, is_valkey=False)
    read = {
        9: packed.zipmap_items,
        11: packed.intset_items,
        **dict.fromkeys((10, 12, 13, 14), packed.ziplist_items),
        **dict.fromkeys((16, 17, 18, 20, 23, 25), packed.listpack_items),
    }[record.value_type]
    if record.value_type == 25:
        reader.milliseconds()
    if record.value_type not in (14, 18):
        return [_text(element) for element in read(reader.string())]
    found: list[bytes] = []
    for _ in range(reader.length()):
        is_plain = record.value_type == 18 and reader.length() == 1
        node = reader.string()
        found += [node] if is_plain else [_text(element) for element in read(node)]
    return found


def _expected_members(entry: dict[str, Any], members: list[bytes]) -> tuple[list[Any], list[Any]]:
    """(what the server said, the same from `members`), both in the description's order."""
    value = entry["value"]
    if entry["type"] == "list":
        return value, [text_or_digest(member) for member in members]
    if entry["type"] == "set":
        return value, [text_or_digest(member) for member in sorted(members)]
    if entry["type"] == "zset":
        pairs = sorted(zip(members[::2], members[1::2], strict=True))
        # Compared as numbers: the description has Python's repr, the server its own.
        return [[member, float(score)] for member, score in value], [
            [text_or_digest(member), float(score)] for member, score in pairs
        ]
    width = 3 if entry["rdb_type"] in (23, 25) else 2
    rows = sorted(members[i : i + width] for i in range(0, len(members), width))
    return value, [
        [
            text_or_digest(row[0]),
            text_or_digest(row[1]),
            (int(row[2]) or None) if width == 3 else None,
        ]
        for row in rows
    ]


PACKED_TYPES = {9, 10, 11, 12, 13, 14, 16, 17, 18, 20, 23, 25}


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps()])
def test_what_servers_packed_is_what_they_say(dump: OpenDump) -> None:
    records = {
        (str(record.db), str(text_or_digest(record.key))): record
        for record in read_rdb(dump.rdb)[0]
        if record.value_type in PACKED_TYPES
    }
    for db, entries in dump.expected["dbs"].items():
        for entry in entries:
            record = records.get((db, str(entry["key"])))
            if record is None:
                continue
            members = _members(record)
            if isinstance(entry["value"], dict):  # more than 500: {"count", "sha256"}
                width = {"list": 1, "set": 1, "zset": 2, "hash": 2}[entry["type"]]
                width += entry["rdb_type"] in (23, 25)
                assert entry["value"]["count"] * width == len(members)
                continue
            said, read = _expected_members(entry, members)
            assert said == read, entry["key"]


def test_corpus_has_every_packed_type() -> None:
    seen = {
        int(no)
        for dump in open_dumps("default", "bigenc")
        for no in dump.expected["rdb"]["value_types"]
    }

    assert seen >= PACKED_TYPES
