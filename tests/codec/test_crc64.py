"""The checksum of DUMP payloads and RDB files."""

from __future__ import annotations

import anycrc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.crc64 import crc64
from tests.codec.interpreted_form import interpreted

POLYNOMIAL = 0x95AC9329AC4BC9B5  # Jones, reflected


def bit_by_bit(data: bytes, crc: int = 0) -> int:
    """The definition: redis src/crc64.c, _crc64."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc


def test_the_check_value_is_that_of_redis() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"") == 0


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_any_bytes_give_what_the_definition_gives(data: bytes, before: int) -> None:
    assert crc64(data, before) == bit_by_bit(data, before)


@given(st.binary(max_size=3000), st.data())
def test_a_checksum_may_be_taken_in_pieces(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))

    assert crc64(data[at:], crc64(data[:at])) == crc64(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_does(kind: type) -> None:
    assert crc64(kind(b"123456789")) == 0xE9C6D914C4B8D9CA


def test_all_lengths_around_the_vector_widths_agree_with_anycrc() -> None:
    data = bytes(i * 7 & 0xFF for i in range(4200))
    model = anycrc.Model("CRC64-REDIS")

    for length in range(0, 4200, 7):
        assert crc64(data[:length]) == model.calc(data[:length])


def test_the_interpreted_form_gives_the_same() -> None:
    plain = interpreted("crc64")

    for length in (0, 1, 8, 100, 1023, 1024, 5000):
        data = bytes(i * 31 & 0xFF for i in range(length))
        assert plain.crc64(data) == crc64(data)
        assert plain.crc64_short(0, data, 0, length) == crc64(data)
