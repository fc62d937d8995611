"""Whether a slot may have been missed by a pass over all nodes; decided from looks at who has it."""

from __future__ import annotations

import pytest

from engine.cluster.slot_holders import Holders, SlotHolders, holders_of, unsettled
from engine.cluster.topology import SLOTS, read_nodes

SLOT = 100
A, B = ("a", 1, False), ("b", 9, False)
LEAVING, COMING = ("a", 1, True), ("b", 2, True)


def look(*holders: tuple[str, int, bool]) -> SlotHolders:
    slots: list[Holders] = [()] * SLOTS
    slots[SLOT] = holders
    return SlotHolders({}, slots)


@pytest.mark.parametrize(
    ("earlier", "before", "after", "is_settled"),
    [
        (None, look(A), look(A), True),
        (None, look(A), look(B), False),
        (None, look(A), look(("a", 10, False)), False),  # it went and came back
        (None, look(LEAVING, COMING), look(LEAVING, COMING), False),
        (look(A), look(LEAVING, COMING), look(LEAVING, COMING), False),
        (look(LEAVING, COMING), look(LEAVING, COMING), look(LEAVING, COMING), True),
        (look(LEAVING, COMING), look(LEAVING, COMING), look(B), False),
        (look(LEAVING, COMING), look(B), look(B), True),
        (None, look(A, B), look(A, B), False),  # one of them does not know yet
        (None, look(), look(), False),
    ],
)
def test_a_slot_is_settled_if_no_key_can_have_passed_from_one_still_to_come_to_one_looked_at(
    earlier: SlotHolders | None, before: SlotHolders, after: SlotHolders, is_settled: bool
) -> None:
    found = unsettled(frozenset({SLOT}), before, after, earlier)
    assert found == (frozenset() if is_settled else frozenset({SLOT}))


NODES = """\
{a} 10.0.0.1:7000@17000 {myself_a}master - 0 0 4 connected 0-8191{moving_a}
{b} 10.0.0.2:7000@17000 {myself_b}master - 0 0 5 connected 8192-16383
{c} 10.0.0.3:7000@17000 {myself_c}master - 0 0 0 connected{moving_c}
{d} 10.0.0.4:7000@17000 master,fail - 0 0 0 disconnected
"""


def nodes(myself: str, moving: str = "") -> str:
    names = {it: it * 40 for it in "abcd"}
    me = {f"myself_{it}": "myself," if it == myself else "" for it in "abc"}
    return NODES.format(
        **names, **me, **{f"moving_{it}": moving if it == myself else "" for it in "ac"}
    )


def test_each_node_says_what_it_has_and_what_is_on_its_way() -> None:
    a, c = "a" * 40, "c" * 40
    maps = {
        a: read_nodes(nodes("a", f" [{SLOT}->-{c}]"), "10.0.0.1"),
        "b" * 40: read_nodes(nodes("b"), "10.0.0.2"),
        c: read_nodes(nodes("c", f" [{SLOT}-<-{a}]"), "10.0.0.3"),
    }
    found = holders_of(maps)
    assert found[SLOT] == ((a, 4, True), (c, 0, True))
    assert found[0] == ((a, 4, False),)
    assert found[16383] == (("b" * 40, 5, False),)
    assert [it.node_id for it in maps[a].idle] == [c]  # up, and without slots
