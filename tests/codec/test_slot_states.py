"""Checkpoints of slots are read out of replies in any chunking; what is no checkpoint, and no reply, is seen as such."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.slot_states import IS_STREAM, SlotStateReader, SlotStates
from engine.errors import InternalError
from tests.codec.interpreted_form import interpreted_imports
from tests.codec.stream_blocks import cut

texts = st.sampled_from([b"", b"stream", b"snapshot", b"a1b2", b"\r\n$1\r\n"]) | st.binary(
    max_size=8
)
numbers = st.integers(0, 10**15).map(lambda it: b"%d" % it) | texts
fields = st.dictionaries(
    st.sampled_from([b"p", b"g", b"r", b"l", b"x", b"long", b""])
    | st.binary(max_size=6).map(lambda it: b"d:" + it),
    texts,
    max_size=6,
)
hashes = st.builds(
    lambda one, other: one | other,
    fields,
    st.dictionaries(st.sampled_from([b"o", b"m", b"b", b"f"]), numbers),
)
replies = hashes | st.sampled_from(["MOVED 5 127.0.0.1:7000", "CLUSTERDOWN down"])


def wire_of(reply: dict[bytes, bytes] | str) -> bytes:
    if isinstance(reply, str):
        return b"-%b\r\n" % reply.encode()
    bulks = [it for pair in reply.items() for it in pair]
    return b"*%d\r\n" % len(bulks) + b"".join(b"$%d\r\n%b\r\n" % (len(it), it) for it in bulks)


def number(text: bytes | None) -> int:
    if text is None:
        return -1
    return int(text) if text.isdigit() and len(text) <= 18 else -2


def check(reader: Any, found: Any, sent: list[dict[bytes, bytes] | str], places: list[int]) -> None:
    data = b"".join(map(wire_of, sent))

    assert sum(reader.feed(it) for it in cut(data, places)) == len(sent)

    assert reader.take_errors() == [
        (7 + n, -1, it) for n, it in enumerate(sent) if isinstance(it, str)
    ]
    marks = []
    for n, it in enumerate(sent):
        slot, its = 100 + n, {} if isinstance(it, str) else it
        assert found.states[slot] == (IS_STREAM if its.get(b"p") == b"stream" else bool(its))
        assert found.offsets[slot] == number(its.get(b"o"))
        assert found.margins[slot] == number(its.get(b"m"))
        assert found.dbs[slot] == number(its.get(b"b"))
        assert found.everywhere[slot] == number(its.get(b"f"))
        assert found.texts[found.generations[slot]] == its.get(b"g", b"")
        assert found.texts[found.replids[slot]] == its.get(b"r", b"")
        assert found.texts[found.ledgers[slot]] == its.get(b"l", b"")
        marks += [(slot, name[2:]) for name in its if name.startswith(b"d:")]
    assert found.marks == marks
    assert not any(found.states[:100])


@given(sent=st.lists(replies, max_size=8), places=st.lists(st.integers(0, 1 << 12), max_size=20))
def test_any_chunking_gives_what_the_hashes_say(
    sent: list[dict[bytes, bytes] | str], places: list[int]
) -> None:
    found = SlotStates()
    check(SlotStateReader(range(100, 100 + len(sent)), found, 7), found, sent, places)


def test_the_interpreted_form_reads_the_same() -> None:
    with interpreted_imports():
        from engine.codec import slot_states

        found = slot_states.SlotStates()
        sent: list[dict[bytes, bytes] | str] = [
            {b"p": b"stream", b"o": b"12", b"m": b"0", b"g": b"a", b"r": b"b", b"d:k": b"1"},
            "TRYAGAIN",
            {},
            {b"p": b"snapshot", b"o": b"-1"},
        ]
        reader = slot_states.SlotStateReader(range(100, 104), found, 7)
        check(reader, found, sent, list(range(0, 200, 3)))


def test_an_answer_to_asking_is_before_the_first_slot() -> None:
    found = SlotStates()
    reader = SlotStateReader([9], found, 0)

    assert reader.feed(b"+OK\r\n" + wire_of({b"o": b"5"})) == 2

    assert found.offsets[9] == 5


@pytest.mark.parametrize(
    "data",
    [
        b":1\r\n",
        b"$1\r\na\r\n",
        b"*1\r\n",
        b"*-1\r\n",
        b"*2\r\n:1\r\n",
        b"*2\r\n$-1\r\n",
        b"*0\r\n*0\r\n",
    ],
)
def test_what_is_no_answer_ends_the_connection(data: bytes) -> None:
    with pytest.raises(InternalError, match="no reply to HGETALL"):
        SlotStateReader([0], SlotStates(), 0).feed(data)
