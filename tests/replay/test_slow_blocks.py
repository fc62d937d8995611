"""Which keys are noted when blocks without margins reach the target late."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from engine.codec.block import Block
from engine.codec.stream import StreamTranscoder
from engine.replay.margin import LAG_SECONDS
from engine.replay.owed import Key
from engine.replay.slow_blocks import SlowBlocks
from tests.codec.stream_blocks import RECEIVED_MS, make_plan, wire

MOMENT = 4_102_444_800_000


class Line:
    """A transcoder, blocks on their way, and what is noted of them."""

    def __init__(self) -> None:
        self.transcoder = StreamTranscoder(make_plan(is_transactional=False))
        self.unconfirmed: list[Block] = []
        self.noted: list[set[Key]] = []
        self.slow = SlowBlocks(self, self.transcoder, self)

    def note_in_doubt(self, keys: set[Key]) -> None:
        if keys:
            self.noted.append(keys)

    def read(self, *commands: Sequence[bytes | str | int]) -> None:
        """Into the open block."""
        self.transcoder.feed(wire(*commands), RECEIVED_MS, False)
        assert self.transcoder.next_block(False) is None

    def send(self, age_seconds: float, *, is_exact: bool = True) -> Block:
        """The open block, received so long ago."""
        block = self.transcoder.next_block(True)
        assert block is not None
        block.is_exact = is_exact
        block.received_seconds = time.monotonic() - age_seconds
        self.slow.begin(block)
        self.slow.sending = None
        self.unconfirmed.append(block)
        return block


@pytest.fixture
def line() -> Line:
    return Line()


LATE, PROMPT = 2 * LAG_SECONDS, 0.0


def test_nothing_is_late(line: Line) -> None:
    line.read(["PEXPIREAT", "a", MOMENT])
    line.send(PROMPT)
    line.slow.note()

    assert line.noted == []


def test_only_what_late_ones_renew_is_noted_and_only_once(line: Line) -> None:
    line.read(["PEXPIREAT", "a", MOMENT])
    line.send(LATE)
    line.read(["PEXPIREAT", "b", MOMENT])
    prompt = line.send(PROMPT)
    line.slow.note()
    line.slow.note()

    assert line.noted == [{(0, b"a")}]

    prompt.received_seconds -= LATE
    line.slow.note()

    assert line.noted[1:] == [{(0, b"b")}]


def test_those_with_a_margin_have_been_noted_by_the_transcoder(line: Line) -> None:
    line.read(["PEXPIREAT", "a", MOMENT])
    line.send(LATE, is_exact=False)
    line.slow.note()

    assert line.noted == []


def test_a_late_one_is_noted_when_it_is_confirmed(line: Line) -> None:
    line.read(["PERSIST", "a"])
    block = line.send(LATE)
    line.unconfirmed.clear()
    line.slow.note_confirmed(block)
    line.slow.note_confirmed(block)

    assert line.noted == [{(0, b"a")}]


def test_one_that_waits_for_room_counts(line: Line) -> None:
    line.read(["PERSIST", "a"])
    line.send(LATE)
    line.read(["PERSIST", "b"])
    line.slow.sending = line.send(LATE)
    line.unconfirmed.pop()
    line.slow.note()

    assert line.noted == [{(0, b"a"), (0, b"b")}]


@pytest.mark.parametrize("is_sent", [True, False])
def test_where_prompt_ones_behind_it_move_a_key_is_noted(line: Line, is_sent: bool) -> None:
    """In blocks on their way, and in the one that is still open."""
    line.read(["PERSIST", "a"])
    line.send(LATE)
    line.read(["PERSIST", "c"], ["RENAME", "a", "b"])
    if is_sent:
        line.send(PROMPT)
    line.slow.note()
    if not is_sent:
        line.send(PROMPT)

    assert set().union(*line.noted) == {(0, b"a"), (0, b"b")}


def test_no_more_than_the_open_block_is_looked_at(line: Line) -> None:
    """What is read behind it is followed by the transcoder, which knows the keys by then."""
    line.read(["PERSIST", "a"])
    line.send(LATE)
    line.slow.note()
    line.read(["SET", "x", "1"])
    line.send(PROMPT)
    line.noted.clear()
    line.read(["RENAME", "a", "b"])
    line.send(PROMPT)

    assert line.noted == []


@pytest.mark.parametrize("is_sent", [True, False])
def test_swapdb_takes_keys_along(line: Line, is_sent: bool) -> None:
    line.read(["PERSIST", "a"])
    line.send(LATE)
    line.read(["SWAPDB", 0, 3])
    if is_sent:
        line.send(PROMPT)
    line.slow.note()

    assert line.noted == [{(3, b"a")}]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("RENAME a b", True),
        ("renamenx a b", True),
        ("COPY a b", True),
        ("MOVE a 1", True),
        ("SUNIONSTORE a b c", True),
        ("SORT a STORE b", True),
        ("SWAPDB 0 1", True),
        ("SET a 1", False),
        ("PERSIST a", False),
        (f"PEXPIREAT a {MOMENT}", False),
        ("SELECT 3", False),
    ],
)
@pytest.mark.parametrize("margin_ms", [0, 1000])
def test_a_block_tells_whether_it_makes_keys_of_others(
    line: Line, command: str, expected: bool, margin_ms: int
) -> None:
    line.transcoder.margin_ms = margin_ms
    line.transcoder.verifies_keys = margin_ms > 0
    line.read(["SET", "first", "1"], command.split(), ["SET", "last", "1"])
    block = line.send(PROMPT)

    assert block.moves_keys is expected

    line.read(["SET", "next", "1"])

    assert line.send(PROMPT).moves_keys is False
