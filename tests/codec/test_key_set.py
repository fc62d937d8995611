"""The set of names' hashes: against Python's own set, in both forms, through growth, a full disk and damage."""

from __future__ import annotations

import itertools
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codec import key_log, key_recorder
from engine.codec.key_set import EMPTY_SET_BYTES, KeySet, hash_name
from tests.codec.interpreted_form import interpreted
from tests.codec.key_set_memory import FORMS, Memory

ANY_FORM = pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
WORD = 8
LOG_FORMS = {
    "as it runs": (key_log, key_recorder),
    "interpreted": (interpreted("key_log"), interpreted("key_recorder")),
}


@ANY_FORM
def test_what_was_added_is_there_and_nothing_else(form) -> None:
    keys = form.KeySet(Memory())

    assert [keys.add(7), keys.add(7), keys.add(8)] == [1, 0, 1]

    assert keys.count == 2
    assert [keys.contains(it) for it in (7, 8, 9)] == [True, True, False]


@ANY_FORM
def test_the_values_that_mark_free_slots_can_be_held_too(form) -> None:
    keys = form.KeySet(Memory())

    assert not keys.contains(0)
    assert not keys.contains(1)
    assert [keys.add(0), keys.add(1), keys.add(0)] == [1, 1, 0]
    assert keys.contains(0)
    assert keys.discard(0)
    assert not keys.contains(0)
    assert keys.contains(1)


@ANY_FORM
@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "discard", "contains"]),
            # few low bits and few tables: chains, wrap-around and tombstones are met all the time
            st.builds(
                lambda table, high, low: table << 56 | high << 20 | low,
                st.sampled_from([0, 1, 255]),
                st.integers(0, 3),
                st.one_of(st.integers(0, 6), st.integers(58, 66)),
            ),
        ),
        max_size=400,
    )
)
def test_it_does_what_a_python_set_does(form, steps) -> None:
    keys, model = form.KeySet(Memory()), set()

    for what, value in steps:
        named = value + 2 if value < 2 else value
        if what == "add":
            assert keys.add(value) == (named not in model)
            model.add(named)
        elif what == "discard":
            assert keys.discard(value) == (named in model)
            model.discard(named)
        assert keys.contains(value) == (named in model)

    assert keys.count == len(model)


@ANY_FORM
def test_tables_grow_one_by_one_and_keep_everything(form) -> None:
    memory = Memory()
    keys = form.KeySet(memory)
    rng = random.Random(5)
    values = [rng.getrandbits(64) | 2 for _ in range(20_000)]
    lonely = [77 << 56 | 2 + number * 64 for number in range(3_000)]  # one table, one slot

    for value in values + lonely:
        keys.add(value)

    assert keys.count == len({*values, *lonely})
    assert all(map(keys.contains, values + lonely))
    assert not any(keys.contains(value ^ 1 << 40) for value in values)
    assert memory.given_up, "the large table moved more than once"


@ANY_FORM
def test_removing_and_adding_for_ever_takes_no_more_room(form) -> None:
    memory = Memory()
    keys = form.KeySet(memory)
    regions = 0
    for round_number in range(40):
        for number in range(40):
            keys.add(3 << 56 | round_number << 32 | number * 5 + 2)
        for number in range(40):
            assert keys.discard(3 << 56 | round_number << 32 | number * 5 + 2)
        regions = len(memory.data)

    assert keys.count == 0
    assert regions - EMPTY_SET_BYTES <= 40 * 40 * WORD * 2  # 64 slots each time, not 128, 256 …


@ANY_FORM
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_hashes_in_the_order_of_their_tables_fill_a_set(form, count: int) -> None:
    rng = random.Random(7)
    values = [rng.getrandbits(64) | 2 for _ in range(count)]
    words = b"".join(it.to_bytes(8, sys.byteorder) for it in values)

    ordered = form.in_table_order(words)

    assert ordered == b"".join(
        it.to_bytes(8, sys.byteorder) for it in sorted(values, key=lambda it: it >> 56)
    )
    keys = form.KeySet(Memory())
    keys.add_words(ordered)
    assert keys.count == count
    assert all(map(keys.contains, values))


@pytest.mark.parametrize("form", LOG_FORMS.values(), ids=list(LOG_FORMS))
def test_a_list_of_names_gets_the_hashes_in_their_order(form) -> None:
    key_log, key_recorder = form
    appended: list[bytes] = []
    log = key_log.KeyLog(appended.append)

    class Owner:
        def sets_of(self, _db: int):
            return log, None

    recorder = key_recorder.KeyRecorder(Owner(), 9)
    names = [b"name:%d" % it for it in range(1300)]
    for name in names:
        recorder.note_bytes(name)
    recorder.drain()

    assert b"".join(appended) == b"".join(
        hash_name(it, 9).to_bytes(8, sys.byteorder) for it in names
    )
    assert len(appended) == 3


@ANY_FORM
def test_a_second_look_at_the_same_memory_finds_the_same(form) -> None:
    memory = Memory()
    first = form.KeySet(memory)
    values = [hash_name(b"%d" % number, 1) for number in range(5_000)]
    for value in values:
        first.add(value)
    first.close()

    again = form.KeySet(memory)

    assert again.count == 5_000
    assert all(map(again.contains, values))


def test_both_forms_write_the_same_bytes() -> None:
    memories = {}
    for name, form in FORMS.items():
        memory = memories[name] = Memory()
        keys = form.KeySet(memory)
        rng = random.Random(11)
        for _ in range(30_000):
            keys.add(rng.getrandbits(64))
        for number in range(100):
            keys.discard(form.hash_name(b"%d" % number, 3))

    assert len({bytes(it.data) for it in memories.values()}) == 1


@ANY_FORM
def test_without_room_to_grow_nothing_is_lost_and_the_next_try_works(form) -> None:
    memory = Memory(limit_bytes=EMPTY_SET_BYTES)
    keys = form.KeySet(memory)
    values = [9 << 56 | number + 2 for number in range(49)]
    for value in values[:48]:
        keys.add(value)

    with pytest.raises(OSError, match="no room"):
        keys.add(values[48])
    assert keys.count == 48
    assert all(map(keys.contains, values[:48]))
    memory.limit_bytes *= 2

    assert keys.add(values[48]) == 1
    assert all(map(keys.contains, values))


@ANY_FORM
def test_a_closed_set_takes_nothing(form) -> None:
    keys = form.KeySet(Memory())
    keys.add(5)

    keys.close()

    assert not keys.contains(5)
    with pytest.raises(ValueError, match="closed"):
        keys.add(6)


@ANY_FORM
@pytest.mark.parametrize(
    ("word", "value"),
    [(0, 1), (1, 1 << 40), (16, (1 << 40) << 6 | 6), (16, 0), (17, 1024 << 6 | 40), (272, 64)],
    ids=["mark", "end", "region", "no-region", "slots", "in-use"],
)
def test_damaged_memory_is_refused(form, word: int, value: int) -> None:
    memory = Memory()
    form.KeySet(memory).close()
    memory.data[word * WORD : word * WORD + WORD] = value.to_bytes(WORD, "little")

    with pytest.raises(ValueError, match=r"set"):
        form.KeySet(memory)


def test_memory_too_small_is_refused() -> None:
    memory = Memory()
    memory.data = bytearray(64)

    with pytest.raises(ValueError, match="too small"):
        KeySet(memory)


@given(st.binary(max_size=100), st.integers(0, 2**64 - 1))
def test_both_forms_hash_alike(name: bytes, seed: int) -> None:
    assert FORMS["interpreted"].hash_name(name, seed) == hash_name(name, seed)


@given(st.binary(max_size=40), st.data())
def test_a_changed_byte_or_length_changes_the_hash(name: bytes, draw: st.DataObject) -> None:
    other = bytearray(name + b"x")
    assert hash_name(bytes(other), 1) != hash_name(name, 1)
    at = draw.draw(st.integers(0, len(name)))
    other[at] ^= draw.draw(st.integers(1, 255))

    assert hash_name(bytes(other), 1) != hash_name(name + b"x", 1)


def structured_names() -> itertools.chain[bytes]:
    """Two million names as applications make them."""
    return itertools.chain(
        (b"user:%d" % n for n in range(500_000)),
        (b"user:%d:name" % n for n in range(400_000)),
        (b"{order}:%09d:lines:%d" % (n // 4, n % 4) for n in range(400_000)),
        (n.to_bytes(4, "little") for n in range(1, 300_001)),
        (n.to_bytes(16, "big") for n in range(1, 200_001)),
        (b"\0" * n for n in range(1_000)),
        (b"session:%032x" % (n << 64) for n in range(200_000)),
    )


@pytest.mark.parametrize("seed", [0, 0x9E3779B97F4A7C15])
def test_two_million_structured_names_have_as_many_hashes_and_spread_evenly(seed: int) -> None:
    low, high = [0] * 256, [0] * 256
    seen = set()
    count = 0
    for name in structured_names():
        value = hash_name(name, seed)
        seen.add(value)
        low[value & 255] += 1
        high[value >> 56] += 1
        count += 1

    assert count == 2_001_000
    assert len(seen) == count
    for buckets in (low, high):  # chi squared, 255 degrees of freedom: above 400 once in 10^8 runs
        expected = count / 256
        assert sum((it - expected) ** 2 / expected for it in buckets) < 400
