"""Which files are valid after SWAPDB and flushes, and after these turn out not to have happened."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger.register import FALL_BACK_BYTES, KEPT_EVENTS, Kind, Register, from_json


def make_register(**brought: str) -> Register:
    """`db0="a b"`: the files of database 0, newest first."""
    register = Register("00ff" * 4)
    register.files[Kind.BROUGHT] = {int(db[2:]): names.split() for db, names in brought.items()}
    return register


def brought(register: Register) -> dict[int, list[str]]:
    return {db: names for db, names in register.files[Kind.BROUGHT].items() if names}


def test_swapdb_exchanges_the_names_of_every_kind() -> None:
    register = make_register(db0="a", db3="b")
    register.files[Kind.KEPT] = {3: ["k"]}

    register.swap(0, 3, 100)

    assert brought(register) == {0: ["b"], 3: ["a"]}
    assert register.names(Kind.KEPT, 0) == ["k"]
    assert register.dbs(Kind.KEPT) == [0]


def test_a_flush_puts_names_away_but_keeps_their_files() -> None:
    register = make_register(db0="a", db1="b")

    register.flush(1, 100)

    assert brought(register) == {0: ["a"]}
    assert register.all_files == {"a", "b"}


def test_flushall_puts_the_names_of_all_databases_away() -> None:
    register = make_register(db0="a", db1="b")
    register.files[Kind.KEPT] = {2: ["k"]}

    register.flush(None, 100)

    assert brought(register) == {}
    assert register.dbs(Kind.KEPT) == []
    assert register.all_files == {"a", "b", "k"}


def test_a_flush_of_nothing_is_no_event() -> None:
    register = make_register(db0="a")

    register.flush(5, 100)

    assert register.events == []


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (50, {0: ["c", "a"], 1: ["b"]}),
        (100, {0: ["b"], 1: ["c", "a"]}),
        (199, {0: ["b"], 1: ["c", "a"]}),
        (200, {0: ["b"], 1: ["c"]}),
        (900, {0: ["b"], 1: ["c"]}),
    ],
)
def test_what_the_target_does_not_have_is_taken_back(
    offset: int, expected: dict[int, list[str]]
) -> None:
    register = make_register(db0="a", db1="b")
    register.swap(0, 1, 100)
    register.flush(1, 200)
    register.files[Kind.BROUGHT].setdefault(1, []).insert(0, "c")  # made since

    register.take_back(offset)

    assert brought(register) == expected
    assert all(event.offset <= offset for event in register.events)


def test_when_nobody_knows_flushes_are_taken_back_and_swaps_stand() -> None:
    register = make_register(db0="a", db1="b")
    register.flush(0, 100)
    register.swap(0, 1, 200)

    register.take_back(None)

    assert brought(register) == {0: ["b"], 1: ["a"]}
    assert register.events == []


def test_of_applied_flushes_the_last_of_each_database_stays_for_a_target_that_goes_back() -> None:
    register = make_register(db0="a", db1="b")
    for offset, name in ((100, "a2"), (200, "a3"), (300, "a4")):
        register.flush(0, offset)
        register.files[Kind.BROUGHT][0] = [name]
    register.flush(1, 150)

    register.note_applied(250)

    assert register.all_files == {"a2", "a3", "a4", "b"}
    register.take_back(120)
    assert brought(register) == {0: ["a4", "a3", "a2"], 1: ["b"]}


def test_after_a_snapshot_what_it_has_is_all_that_was_brought() -> None:
    register = make_register(db0="a")
    register.flush(0, 100)
    register.files[Kind.BROUGHT][0] = ["a2"]
    register.files[Kind.CURRENT] = {2: ["c"]}

    register.replace_brought(1000)

    assert brought(register) == {2: ["c"]}
    assert register.all_files == {"a2", "c"}
    register.note_applied(1000 + FALL_BACK_BYTES)
    assert register.all_files == {"a2", "c"}
    register.note_applied(1001 + FALL_BACK_BYTES)
    assert register.all_files == {"c"}


def test_swaps_are_not_kept_for_ever() -> None:
    register = make_register(db0="a")

    for offset in range(KEPT_EVENTS + 5):
        register.swap(0, 1, offset)

    assert len(register.events) == KEPT_EVENTS


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("swap"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("flush"), st.sampled_from([None, 0, 1, 2]), st.just(0)),
        st.tuples(st.just("make"), st.integers(0, 2), st.just(0)),
    ),
    max_size=12,
)


@given(STEPS, st.data())
def test_after_any_crash_every_name_on_the_target_is_in_the_right_database(
    steps: list[tuple[str, int, int]], draw: st.DataObject
) -> None:
    """Step n happens at offset n. At each offset the target has the files made and not flushed up to there."""
    register = Register("00ff" * 4)
    target: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    states = [copy.deepcopy(target)]
    for offset, (what, one, other) in enumerate(steps, start=1):
        if what == "swap":
            register.swap(one, other, offset)
            target[one], target[other] = target[other], target[one]
        elif what == "flush":
            register.flush(one, offset)
            for db in target if one is None else [one]:
                target[db] = set()
        else:
            target[one].add(register.make_file(Kind.BROUGHT, one))
        states.append(copy.deepcopy(target))
    register, _ = from_json(json.dumps(register.to_json()))
    at = draw.draw(st.integers(0, len(steps)))

    register.take_back(at)

    for db, files in states[at].items():
        assert files <= set(register.names(Kind.BROUGHT, db))
    for step in range(at + 1, len(steps) + 1):  # and the stream goes on: the same again
        what, one, other = steps[step - 1]
        if what == "swap":
            register.swap(one, other, step)
        elif what == "flush":
            register.flush(one, step)
    for db, files in states[-1].items():
        gone_ahead = set(register.names(Kind.BROUGHT, db))
        made_before = {name for state in states[: at + 1] for it in state.values() for name in it}
        assert files & made_before <= gone_ahead


def test_a_register_written_and_read_is_the_same() -> None:
    register = make_register(db0="a b", db15="c")
    register.files[Kind.KEPT] = {0: ["k"]}
    register.swap(0, 15, 7)
    register.flush(None, 9)
    register.serial, register.is_complete = 12, False

    again, _ = from_json(json.dumps(register.to_json()))

    assert again.to_json() == register.to_json()
    assert again.seed == 0x00FF00FF00FF00FF


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"format": 2}', '{"format": 1, "id": "x", "serial": 1, "is_complete": true}'],
)
def test_what_is_no_register_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(text)
