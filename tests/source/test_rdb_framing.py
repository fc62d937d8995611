"""The RDB is found in the bytes of a full resync, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceProtocolError, SourceRefused
from engine.source.rdb_framing import RdbFraming
from tests.codec.stream_blocks import cut

MARK = b"0123456789abcdef" * 2 + b"01234567"
# A mark that begins again inside itself is the hardest one to find.
ODD_MARK = b"aab" * 13 + b"a"

pieces = st.binary(max_size=50) | st.just(b"\n") | st.integers(0, 39).map(lambda n: MARK[:n])
odd_pieces = st.binary(max_size=20) | st.integers(0, 39).map(lambda n: ODD_MARK[:n])
places = st.lists(st.integers(0, 1 << 16), max_size=20)
newlines = st.integers(0, 5).map(lambda count: b"\n" * count)


def feed_all(framing: RdbFraming, chunks: list[bytes]) -> tuple[bytes, bytes]:
    """Feed until the RDB is whole; what then comes goes to the stream, as the link does it."""
    rdb = stream = b""
    for chunk in chunks:
        if framing.is_complete:
            stream += chunk
        else:
            part, after = framing.feed(chunk)
            rdb += part
            stream += after
            assert not after or framing.is_complete
            assert framing.received_bytes == len(rdb)
    return rdb, stream


@given(st.binary(max_size=300), st.binary(max_size=60), newlines, places)
def test_an_rdb_of_known_length_is_found_at_any_cuts(
    rdb: bytes, stream: bytes, before: bytes, at: list[int]
) -> None:
    framing = RdbFraming()
    sent = before + b"$%d\r\n" % len(rdb) + rdb + stream

    assert feed_all(framing, cut(sent, at)) == (rdb, stream)
    assert framing.is_complete
    assert not framing.is_diskless
    assert framing.total_bytes == len(rdb)
    assert framing.keepalives == len(before)


@pytest.mark.parametrize(("mark", "parts"), [(MARK, pieces), (ODD_MARK, odd_pieces)])
def test_an_rdb_that_ends_with_a_mark_is_found_at_any_cuts(
    mark: bytes, parts: st.SearchStrategy[bytes]
) -> None:
    @given(st.lists(parts, max_size=8), st.lists(parts, max_size=3), newlines, places)
    def check(rdb_parts: list[bytes], after: list[bytes], before: bytes, at: list[int]) -> None:
        # The mark is where it first occurs; random ones never occur earlier in a real RDB.
        whole = b"".join(rdb_parts) + mark + b"".join(after)
        rdb, _, stream = whole.partition(mark)
        framing = RdbFraming()

        found = feed_all(framing, cut(before + b"$EOF:" + mark + b"\r\n" + whole, at))

        assert found == (rdb, stream)
        assert framing.is_diskless
        assert framing.total_bytes == len(rdb)

    check()


@pytest.mark.parametrize("at", range(1, 40))
def test_a_mark_split_over_two_reads_is_found_with_stream_bytes_behind_it(at: int) -> None:
    framing = RdbFraming()
    framing.feed(b"$EOF:" + MARK + b"\r\n")

    first = framing.feed(b"REDIS0011" + MARK[:at])
    second = framing.feed(MARK[at:] + b"*1\r\n")

    assert (first, second) == ((b"REDIS0011", b""), (b"", b"*1\r\n"))
    assert framing.is_complete


def test_byte_by_byte_does() -> None:
    for form in (b"$9\r\nREDIS0011", b"$EOF:" + MARK + b"\r\nREDIS0011" + MARK):
        framing = RdbFraming()
        sent = b"\n\n" + form + b"*1\r\n$4\r\nPING\r\n"

        found = feed_all(framing, [sent[i : i + 1] for i in range(len(sent))])

        assert found == (b"REDIS0011", b"*1\r\n$4\r\nPING\r\n")


def test_what_cannot_be_the_mark_is_not_held_back() -> None:
    framing = RdbFraming()
    framing.feed(b"$EOF:" + MARK + b"\r\n")

    assert framing.feed(b"x" * 1000) == (b"x" * 1000, b"")


@pytest.mark.parametrize(
    "line",
    [
        b"$",
        b"$-1",
        b"$x",
        b"$EOF:short",
        b"$EOF:" + b"x" * 41,
        b"+OK",
        b"*1",
    ],
)
def test_what_announces_no_rdb_is_an_error(line: bytes) -> None:
    with pytest.raises(SourceProtocolError, match="announced its RDB with"):
        RdbFraming().feed(line + b"\r\n")


@pytest.mark.parametrize(
    "text", ["ERR unknown command 'SYNC'", "ERR Unable to perform background save"]
)
def test_an_error_in_place_of_the_rdb_is_a_refusal(text: str) -> None:
    with pytest.raises(SourceRefused, match=text):
        RdbFraming().feed(b"\n\n-%b\r\n" % text.encode())


def test_a_line_without_an_end_is_an_error_and_not_held_for_ever() -> None:
    framing = RdbFraming()
    framing.feed(b"x" * 60_000)

    with pytest.raises(SourceProtocolError, match="no RDB after"):
        framing.feed(b"x" * 10_000)


def test_newlines_alone_are_no_line() -> None:
    framing = RdbFraming()

    for _ in range(100_000):
        assert framing.feed(b"\n") == (b"", b"")

    assert framing.keepalives == 100_000
    assert not framing.has_header
