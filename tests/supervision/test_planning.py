"""What counts as slots that have moved. Pure but for the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.cluster.discovery import mapped_address
from engine.cluster.topology import ClusterMap, Node, Shard, ranges_of, read_nodes, shown_ranges
from engine.errors import SourceRefused
from engine.supervision.planning import SourceShards


def node(name: str, *, is_primary: bool = True, is_up: bool = True) -> Node:
    return Node(name, "h", 1, is_primary=is_primary, is_up=is_up)


ONE = Shard(node("a"), (node("a2", is_primary=False),), ((0, 8191),), epoch=1)
OTHER = Shard(node("b"), (node("b2", is_primary=False),), ((8192, 16383),), epoch=2)
MAP = ClusterMap((ONE, OTHER))
PROMOTED = replace(ONE, primary=node("a2"), replicas=(), epoch=7)


@pytest.mark.parametrize(
    ("later", "is_moved"),
    [
        (MAP, False),
        (ClusterMap((PROMOTED, OTHER)), False),
        (ClusterMap((replace(ONE, primary=node("a", is_up=False)), OTHER)), False),
        (ClusterMap((replace(ONE, epoch=3), OTHER)), True),
        (replace(MAP, moving=frozenset({9})), True),
        (
            ClusterMap(
                (replace(ONE, ranges=((0, 8190),)), replace(OTHER, ranges=((8191, 16383),)))
            ),
            True,
        ),
        (ClusterMap((Shard(node("x"), (), ((0, 8191),)), OTHER)), True),
    ],
    ids=["same", "failover", "down", "there-and-back", "moving", "moved", "stranger"],
)
@pytest.mark.parametrize("is_restarted", [False, True])
def test_moves_are_found(
    later: ClusterMap, is_moved: bool, is_restarted: bool, tmp_path: Path
) -> None:
    shards = SourceShards(tmp_path / "t")
    shards.check(MAP)
    if is_restarted:
        shards = SourceShards(tmp_path / "t")
        shards.load()
        assert shards.is_known
    if not is_moved:
        shards.check(later)
        return
    with pytest.raises(SourceRefused, match="have moved") as caught:
        shards.check(later)
    assert "empty target" in caught.value.hint


def test_who_led_before_the_failover_may_lead_again(tmp_path: Path) -> None:
    shards = SourceShards(tmp_path)
    shards.check(MAP)
    shards.check(ClusterMap((PROMOTED, OTHER)))
    shards.check(ClusterMap((replace(ONE, epoch=8), OTHER)))


def test_nodes_are_read_whatever_they_announce() -> None:
    text = (
        "aa :7001@17001 myself,master - 0 0 1 connected 0-100 102 [103->-bb]\n"
        "bb fd00::1:7002@17002,node.example master,fail - 0 0 2 disconnected 103-16383\n"
        "cc 10.0.0.3:7003@17003 slave aa 0 0 1 connected\n"
    )
    found = read_nodes(text, "asked")
    one, other = found.shards
    assert (one.primary.address, one.ranges, one.epoch) == ("asked:7001", ((0, 100), (102, 102)), 1)
    assert one.node_ids == {"aa", "cc"}
    assert (other.primary.address, other.primary.is_up) == ("[fd00::1]:7002", False)
    assert found.moving == {103}
    assert found.unserved == 1 + 16383 - 102
    assert list(found.table()[99:104]) == [0, 0, -1, 0, 1]
    assert shown_ranges(ranges_of([5, 1, 2, 3])) == "1-3 5"


def test_addresses_are_mapped_whole_first() -> None:
    pairs = [("a", "x"), ("a:1", "y:9")]
    assert mapped_address("a", 1, pairs) == ("y", 9)
    assert mapped_address("a", 2, pairs) == ("x", 2)
    assert mapped_address("b", 2, pairs) == ("b", 2)


def test_a_replica_that_goes_over_to_another_shard_is_no_move(tmp_path: Path) -> None:
    third = node("a3", is_primary=False)
    shards = SourceShards(tmp_path)
    shards.check(ClusterMap((replace(ONE, replicas=(*ONE.replicas, third)), OTHER)))
    gone_over = ClusterMap((ONE, replace(OTHER, replicas=(*OTHER.replicas, third))))
    for _ in range(2):
        assert shards.check(gone_over)
    # It leads there, and the other way round it is a stranger.
    led = replace(OTHER, primary=replace(third, is_primary=True), replicas=(), epoch=9)
    assert shards.check(ClusterMap((ONE, led)))
    with pytest.raises(SourceRefused, match="8192-16383 has none now"):
        shards.check(ClusterMap((ONE, replace(led, primary=node("x")))))


def test_a_slot_in_motion_at_the_start_is_refused_and_nothing_noted(tmp_path: Path) -> None:
    shards = SourceShards(tmp_path)
    with pytest.raises(SourceRefused, match="slot 9, which h:1 serves, is being moved") as caught:
        shards.check(replace(MAP, moving=frozenset({9, 10})))
    assert "then start again" in caught.value.hint
    assert not shards.is_known
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    shards = SourceShards(tmp_path)
    assert shards.check(MAP)
    assert not shards.check(ClusterMap((replace(ONE, primary=node("a", is_up=False)), OTHER)))
    assert shards.latest == MAP
