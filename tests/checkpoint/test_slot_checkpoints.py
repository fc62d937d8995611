"""What the checkpoints of all slots say together."""

from __future__ import annotations

from typing import Any

import pytest

from engine.checkpoint.slot_checkpoints import SlotCheckpoints, joined, questions
from engine.codec.slot_states import SlotStateReader, SlotStates
from engine.codec.slots import SLOTS, key_slot
from engine.position import Position
from tests.codec.stream_blocks import parse
from tests.codec.test_slot_states import wire_of

USUAL = {b"p": b"stream", b"g": b"a1", b"r": b"id", b"l": b"names", b"m": b"0", b"o": b"1000"}


def joined_of(changes: dict[int, dict[bytes, bytes] | None]) -> SlotCheckpoints:
    """All slots as usual but for these; None: the slot has none."""
    found = SlotStates()
    hashes: list[Any] = [USUAL] * SLOTS
    for slot, it in changes.items():
        hashes[slot] = {} if it is None else USUAL | it
    SlotStateReader(range(SLOTS), found, 0).feed(b"".join(map(wire_of, hashes)))
    return joined(found)


def test_the_lowest_slot_says_where_to_go_on_and_with_which_database() -> None:
    all_slots = joined_of(
        {
            5: {b"o": b"400", b"r": b"older", b"b": b"3", b"d:k": b"1"},
            6: {b"o": b"400", b"r": b"other"},
            9: {b"m": b"70"},
            10: {b"m": b"60"},
            0: {b"f": b"900"},
        }
    )

    assert all_slots.position == Position("older", 400)
    assert all_slots.db == 3
    assert (all_slots.applied[4], all_slots.applied[5]) == (1000, 400)
    assert (all_slots.generation, all_slots.ledger) == ("a1", "names")
    assert all_slots.margin_since_ms == 60
    assert all_slots.in_doubt == (b"k",)
    assert all_slots.everywhere == 900
    assert all_slots.was_there


@pytest.mark.parametrize(
    "change",
    [
        None,
        {b"p": b"snapshot"},
        {b"g": b"b2"},
        {b"o": b"x"},
        {b"m": b"-"},
        {b"b": b"?"},
        {b"o": b"4", b"r": b""},
    ],
    ids=str,
)
def test_one_slot_that_cannot_go_on_is_a_reason_to_begin_anew(
    change: dict[bytes, bytes] | None,
) -> None:
    all_slots = joined_of({77: change})

    assert all_slots.position is None
    assert all_slots.was_there
    assert all_slots.generation == ("" if change is None or b"g" in change else "a1")


def test_a_cluster_without_any_has_none() -> None:
    assert joined(SlotStates()) == SlotCheckpoints(None, joined(SlotStates()).applied)


def test_each_slot_is_asked_for_in_the_slot_itself() -> None:
    commands = parse(questions([3, 16383, 0], b":task:line"))

    assert [key_slot(key) for _, key in commands] == [3, 16383, 0]
    assert {name for name, _ in commands} == {b"HGETALL"}
    assert questions([], b"") == b""
