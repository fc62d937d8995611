"""Which keys are in doubt, what the router is told of them, and what is written down in their slots."""

from __future__ import annotations

from array import array

import pytest

from engine.checkpoint.slot_checkpoints import joined
from engine.codec.command_text import commands_in, encode
from engine.codec.slot_router import SlotRouter
from engine.codec.slot_states import SlotStateReader, SlotStates
from engine.codec.slots import SLOTS, key_slot
from engine.errors import TargetRejected
from engine.replay import keys_in_doubt
from engine.replay.keys_in_doubt import KeysInDoubt
from engine.stats import LineStats
from tests.codec.test_slot_states import wire_of


@pytest.fixture
def router() -> SlotRouter:
    made = SlotRouter(b":t1:0", False)
    made.place(array("i", [made.add_queue()] * SLOTS))
    return made


def written(router: SlotRouter) -> list[list[bytes]]:
    return list(commands_in(router.take_batch(1, 0, None, -1).data))


def test_a_mark_comes_with_the_doubt_and_goes_with_the_value(router: SlotRouter) -> None:
    stats = LineStats()
    keys = KeysInDoubt(router, stats)
    checkpoint = router.checkpoint_key(key_slot(b"a"))
    assert router.tainted is None
    keys.add(b"a", 90)
    keys.add(b"a", 95)
    assert written(router) == [[b"HSET", checkpoint, b"d:a", b"90"]]
    assert router.tainted is not None
    assert [n for n, it in enumerate(router.tainted) if it] == [key_slot(b"a")]
    assert stats.keys_in_doubt == 1
    keys.resolve(b"a", encode("DEL", "a"))
    assert written(router) == [[b"DEL", b"a"], [b"HDEL", checkpoint, b"d:a"]]
    assert router.tainted is None
    assert stats.keys_in_doubt == 0


def test_two_keys_of_a_slot_taint_it_until_both_are_known(router: SlotRouter) -> None:
    keys = KeysInDoubt(router, LineStats(), [b"{a}1", b"{a}2"])
    assert router.tainted is not None
    keys.resolve(b"{a}1", encode("DEL", "{a}1"))
    assert router.tainted is not None
    keys.resolve(b"{a}2", encode("DEL", "{a}2"))
    assert router.tainted is None


def test_commands_of_tainted_slots_are_events(router: SlotRouter) -> None:
    KeysInDoubt(router, LineStats(), [b"a"])
    router.add(encode("SET", "b", 1) + encode("SET", "a", 1) + encode("SET", "{a}2", 1), None)
    assert router.run(5)
    assert router.event == [b"SET", b"a", b"1"]
    assert router.run(5)
    assert router.event == [b"SET", b"{a}2", b"1"]
    assert not router.run(5)
    assert written(router) == [[b"SET", b"b", b"1"]]


def test_asked_about_and_not_told(router: SlotRouter) -> None:
    keys = KeysInDoubt(router, LineStats(), [b"a", b"b", b"c"])
    assert keys.take(2) == [b"a", b"b"]
    assert b"a" in keys
    keys.resolve(b"a", encode("DEL", "a"))
    keys.put_back([b"a", b"b"])
    assert b"a" not in keys
    assert keys.take(9) == [b"c", b"b"]
    assert not keys.has_waiting
    assert len(keys) == 2


def test_no_more_than_can_be_held(router: SlotRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_in_doubt, "MOST_IN_DOUBT", 2)
    keys = KeysInDoubt(router, LineStats())
    keys.add(b"a", 1)
    keys.add(b"b", 2)
    with pytest.raises(TargetRejected, match=r"values of 2 keys.*common hash tag"):
        keys.add(b"c", 3)
    keys.clear()
    assert router.tainted is None


def test_marks_are_found_also_where_checkpoints_cannot_be_gone_on_from() -> None:
    hashes: list[dict[bytes, bytes]] = [{} for _ in range(SLOTS)]
    hashes[3] = {b"p": b"stream", b"d:x": b"9", b"d:d:y": b"7"}
    states = SlotStates()
    SlotStateReader(range(SLOTS), states, 0).feed(b"".join(map(wire_of, hashes)))
    found = joined(states)
    assert found.position is None
    assert found.in_doubt == (b"x", b"d:y")
