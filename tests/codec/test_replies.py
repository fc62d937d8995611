"""The reply skimmer counts what hiredis reads, and finds the errors where hiredis finds them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.replies import ReplySkimmer
from engine.errors import InternalError
from tests.codec.stream_blocks import cut

lines = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
scalars = st.one_of(
    lines.map(lambda text: b"+%b\r\n" % text.encode()),
    lines.map(lambda text: b"-ERR %b\r\n" % text.encode()),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: b":%d\r\n" % number),
    (st.binary(max_size=20) | st.sampled_from([b"\r\n", b"-ERR no\r\n", b"x" * 70_000])).map(
        lambda bulk: b"$%d\r\n%b\r\n" % (len(bulk), bulk)
    ),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"+\r\n"]),
)
replies = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5).map(
        lambda it: b"*%d\r\n%b" % (len(it), b"".join(it))
    ),
    max_leaves=12,
)

Found = tuple[int, int, str]


def errors_of(reply: int, element: int, value: Any) -> list[Found]:
    """(reply, element of the outermost array, text) of every error in what hiredis read."""
    if isinstance(value, hiredis.ReplyError):
        return [(reply, element, str(value))]
    if isinstance(value, list):
        return [
            found
            for at, inner in enumerate(value)
            for found in errors_of(reply, at if element < 0 else element, inner)
        ]
    return []


def nulls_of(value: Any) -> int:
    return sum(map(nulls_of, value)) if isinstance(value, list) else value is None


def read_by_hiredis(data: bytes) -> list[Any]:
    reader = hiredis.Reader()
    reader.feed(data)
    found = []
    while (value := reader.gets()) is not False:
        found.append(value)
    return found


@given(sent=st.lists(replies, max_size=12), places=st.lists(st.integers(0, 1 << 20), max_size=20))
def test_any_chunking_gives_the_counts_and_errors_that_hiredis_reads(
    sent: list[bytes], places: list[int]
) -> None:
    data = b"".join(sent)
    expected = read_by_hiredis(data)
    skimmer = ReplySkimmer()

    counts = [skimmer.feed(chunk) for chunk in cut(data, places)]

    assert sum(counts) == len(expected) == len(sent)
    assert skimmer.take_errors() == [
        found for reply, value in enumerate(expected) for found in errors_of(reply, -1, value)
    ]
    assert skimmer.nulls == sum(map(nulls_of, expected))


@given(sent=st.lists(replies, min_size=1, max_size=6), share=st.floats(0, 1))
def test_a_reply_is_counted_with_its_last_byte_and_not_before(
    sent: list[bytes], share: float
) -> None:
    data = b"".join(sent)
    at = int(share * (len(data) - 1))
    skimmer = ReplySkimmer()

    assert skimmer.feed(data[:at]) == len(read_by_hiredis(data[:at]))
    skimmer.feed(data[at:-1])
    assert skimmer.replies == len(sent) - 1
    assert skimmer.feed(data[-1:]) == 1


def test_errors_are_handed_out_once_with_numbers_that_go_on() -> None:
    skimmer = ReplySkimmer()

    skimmer.feed(b"+OK\r\n-ERR a\r\n")
    first = skimmer.take_errors()
    skimmer.feed(b"*2\r\n:1\r\n-OOM b\r\n")

    assert first == [(1, -1, "ERR a")]
    assert skimmer.take_errors() == [(2, 1, "OOM b")]
    assert skimmer.take_errors() == []


def test_an_error_that_is_not_utf_8_is_still_a_text() -> None:
    skimmer = ReplySkimmer()

    skimmer.feed(b"-ERR \xff\r\n")

    assert skimmer.take_errors() == [(0, -1, "ERR \ufffd")]


def test_a_flood_of_errors_does_not_fill_the_memory() -> None:
    skimmer = ReplySkimmer()

    assert skimmer.feed(b"-ERR x\r\n" * 5000) == 5000
    assert len(skimmer.take_errors()) == 1000


def test_big_bulks_are_passed_over_and_not_held() -> None:
    skimmer = ReplySkimmer()
    chunk = bytes(1 << 20)
    skimmer.feed(b"$%d\r\n" % (32 << 20))

    tracemalloc.start()
    counts = [skimmer.feed(chunk) for _ in range(32)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert counts == [0] * 32
    assert peak < 1 << 20
    assert skimmer.feed(b"\r\n") == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n+OK\r\n",
        b"%1\r\n",  # RESP3, which is never asked for
        b"$x\r\n",
        b"*\r\n",
        b"$1x\r\n",
        b"*1\r\n" * 17,
        b"+" + b"x" * 70_000,
    ],
    ids=lambda it: repr(it[:12]),
)
def test_bytes_that_are_no_replies_are_an_internal_error(garbage: bytes) -> None:
    with pytest.raises(InternalError):
        ReplySkimmer().feed(b"+OK\r\n" + garbage)
