"""LZF against a compressor written for the purpose, and against inputs made to hurt."""

from __future__ import annotations

import random
import tracemalloc
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import lzf
from engine.errors import CorruptRdb
from tests.codec.interpreted_form import interpreted

FORMS = [pytest.param(lzf, id="as-built"), pytest.param(interpreted("lzf"), id="interpreted")]

LONGEST_LITERAL = 32
LONGEST_COPY = 264
FARTHEST = 8192


def compress(text: bytes) -> bytes:
    """Greedy and slow: at each place the longest copy there is, else a literal."""
    out = bytearray()
    literal = bytearray()

    def flush() -> None:
        if literal:
            out.append(len(literal) - 1)
            out.extend(literal)
            literal.clear()

    at = 0
    while at < len(text):
        back, length = _longest_copy(text, at)
        if length < 3:
            literal.append(text[at])
            at += 1
            if len(literal) == LONGEST_LITERAL:
                flush()
            continue
        flush()
        high, low = divmod(back - 1, 256)
        if length - 2 < 7:
            out += bytes([(length - 2) << 5 | high, low])
        else:
            out += bytes([7 << 5 | high, length - 2 - 7, low])
        at += length
    flush()
    return bytes(out)


def _longest_copy(text: bytes, at: int) -> tuple[int, int]:
    best = (0, 0)
    for back in range(1, min(at, FARTHEST) + 1):
        length = 0
        while (
            length < LONGEST_COPY
            and at + length < len(text)
            and text[at + length] == text[at - back + length]
        ):
            length += 1
        if length > best[1]:
            best = (back, length)
        if length == LONGEST_COPY:
            break
    return best


REPETITIVE = st.lists(st.sampled_from([b"a", b"ab", b"xyz", b"0123456789", b"\0\xff"]), max_size=60)


@pytest.mark.parametrize("form", FORMS)
@given(text=st.one_of(st.binary(max_size=300), REPETITIVE.map(b"".join)))
def test_what_was_compressed_comes_back(form: ModuleType, text: bytes) -> None:
    assert text == form.lzf_decompress(compress(text), len(text))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 263, 264, 265, 8191, 8192, 8193, 20_000])
def test_runs_of_one_byte_come_back(form: ModuleType, length: int) -> None:
    text = b"r" * length

    assert text == form.lzf_decompress(compress(text), length)


@pytest.mark.parametrize("form", FORMS)
def test_the_farthest_reference_reaches_the_first_byte(form: ModuleType) -> None:
    text = random.Random(8192).randbytes(FARTHEST)
    literals = b"".join(
        b"\x1f" + text[at : at + LONGEST_LITERAL] for at in range(0, FARTHEST, LONGEST_LITERAL)
    )
    copy = b"\xff\xff\xff"  # 264 bytes from 8192 back

    assert text + text[:LONGEST_COPY] == form.lzf_decompress(
        literals + copy, FARTHEST + LONGEST_COPY
    )


@given(source=st.binary(max_size=80), expected=st.integers(0, 7200))
def test_both_forms_agree_on_anything(source: bytes, expected: int) -> None:
    answers = []
    for form in (lzf, interpreted_lzf):
        try:
            answers.append(form.lzf_decompress(source, expected))
        except CorruptRdb as error:
            answers.append((error.message, error.offset))

    assert answers[0] == answers[1]


interpreted_lzf = interpreted("lzf")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("difference", [-1, 1])
def test_another_length_than_said_is_refused(form: ModuleType, difference: int) -> None:
    packed = compress(b"abcabcabcabcabcabc")

    with pytest.raises(CorruptRdb, match="LZF"):
        form.lzf_decompress(packed, 18 + difference)


BROKEN = {
    "literal-past-the-end": b"\x05abc",
    "ends-in-a-reference": b"\x00a\x20",
    "ends-in-a-length": b"\x00a\xe0",
    "reference-before-the-first-byte": b"\x00a\x20\x01",
    "nothing-but-a-reference": b"\x20\x00",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", BROKEN.values(), ids=BROKEN.keys())
def test_broken_input_is_refused_with_its_place(form: ModuleType, packed: bytes) -> None:
    with pytest.raises(CorruptRdb, match="LZF") as caught:
        form.lzf_decompress(packed, 4)

    assert 0 <= caught.value.offset <= len(packed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("expected", [1 << 29, 1 << 32, 1 << 60, (1 << 64) - 1])
def test_a_bomb_takes_no_memory(form: ModuleType, expected: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRdb, match="cannot give"):
            form.lzf_decompress(b"\x00a\xe0\xff\x00" * 4, expected)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


@pytest.mark.parametrize("form", FORMS)
def test_the_best_ratio_there_is_is_read(form: ModuleType) -> None:
    packed = b"\x00a" + b"\xe0\xff\x00" * 20_000

    assert form.lzf_decompress(packed, 1 + 264 * 20_000) == b"a" * (1 + 264 * 20_000)
