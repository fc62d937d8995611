"""Expiries that are being asked for, while the stream carries their keys away."""

from __future__ import annotations

import pytest

from engine.codec.stream import StreamTranscoder
from tests.codec.stream_blocks import RECEIVED_MS, make_plan, wire

KEYS = {(4, b"k"), (6, b"other")}
HASHES = {(4, b"h")}


@pytest.fixture
def transcoder() -> StreamTranscoder:
    """It owes two keys and a hash, and all of them have been taken to be asked for."""
    made = StreamTranscoder(make_plan(db=4))
    made.add_late_keys(set(KEYS), set(HASHES))
    keys, hashes = made.take_late(10, 10)
    assert (set(keys), set(hashes)) == (KEYS, HASHES)
    return made


def feed(transcoder: StreamTranscoder, *commands: tuple[object, ...]) -> None:
    transcoder.feed(wire(*commands), RECEIVED_MS, False)
    assert transcoder.next_block(True) is not None


def test_those_that_stay_are_owed_no_more(transcoder: StreamTranscoder) -> None:
    feed(transcoder, ("SET", "unrelated", "1"))
    transcoder.release_late_keys()
    assert transcoder.late_keys | transcoder.late_hashes == set()


def test_those_in_a_swapped_database_are_owed_again_where_they_are_now(
    transcoder: StreamTranscoder,
) -> None:
    feed(transcoder, ("SWAPDB", 4, 9), ("SWAPDB", 9, 2))
    assert transcoder.late_keys | transcoder.late_hashes == set()  # not before the answer came
    transcoder.release_late_keys()
    assert transcoder.late_keys == {(2, b"k"), (6, b"other")}
    assert transcoder.late_hashes == {(2, b"h")}
    transcoder.take_late(10, 10)
    transcoder.release_late_keys()
    assert transcoder.late_keys | transcoder.late_hashes == set()


def test_a_hash_that_is_renamed_or_copied_is_owed_as_a_whole_under_its_new_name(
    transcoder: StreamTranscoder,
) -> None:
    feed(transcoder, ("RENAME", "h", "h2"), ("COPY", "h2", "h3", "DB", 7), ("RENAME", "k", "k2"))
    transcoder.release_late_keys()
    assert transcoder.late_hashes == {(4, b"h2"), (7, b"h3")}
    assert (4, b"k2") in transcoder.late_keys


def test_what_is_added_meanwhile_does_not_let_the_taken_ones_go(
    transcoder: StreamTranscoder,
) -> None:
    transcoder.add_late_keys(set(), {(0, b"new")})
    feed(transcoder, ("SWAPDB", 4, 9))
    transcoder.release_late_keys()
    assert transcoder.late_hashes == {(0, b"new"), (9, b"h")}
