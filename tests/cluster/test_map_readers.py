"""CLUSTER NODES, SHARDS and SLOTS as servers give them: three readers, one map."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cluster.topology import ClusterMap, read_nodes, read_shards, read_slots
from tests.conditions import holds
from tests.fix_servers import BINARIES
from tests.servers.cluster import PATIENT, ClusterNode, RunningCluster

SHARDS_SINCE = (7, 0, 0)
PRIMARY, REPLICA = (
    "f319408303121e5e2f45be81a6c4bd9dbc4c8f0e",
    "21a513a3a66047ad5195d4fd342bbe5eccb49f36",
)
SLOTS_OF_ALL = [0, 100, 102, 16383]


def shards_node(node_id: str, role: str, **fields: Any) -> list[Any]:
    """As Redis 8.2 and Valkey 8.1 tell a node in CLUSTER SHARDS."""
    told = {"id": node_id, **fields, "role": role, "replication-offset": 189, "health": "online"}
    flat = [it for name, value in told.items() for it in (name, value)]
    return [it.encode() if isinstance(it, str) else it for it in flat]


def shards_reply(*nodes: list[Any], **more: Any) -> list[Any]:
    flat = [it for name, value in more.items() for it in (name.encode(), value)]
    return [[b"slots", SLOTS_OF_ALL, b"nodes", list(nodes), *flat]]


def told(found: ClusterMap) -> list[Any]:
    """What all readers must agree on."""
    return [
        (
            it.ranges,
            (it.primary.node_id, it.primary.address, it.primary.is_primary, it.primary.is_up),
            {(r.node_id, r.address, r.is_primary, r.is_up) for r in it.replicas},
        )
        for it in found.shards
    ]


@pytest.mark.parametrize(
    ("ports", "plain", "tls"),
    [
        ({"port": 7001}, 7001, 7001),
        ({"tls-port": 8001}, 8001, 8001),
        ({"port": 7001, "tls-port": 8001}, 7001, 8001),
        ({"tls-port": 8001, "port": 0}, 8001, 8001),
    ],
    ids=["plain", "tls", "both", "plain-is-off"],
)
def test_shards_tell_both_ports_and_the_sides_kind_is_taken(
    ports: dict[str, int], plain: int, tls: int
) -> None:
    at = {**ports, "ip": "10.0.0.1", "endpoint": "10.0.0.1"}
    reply = shards_reply(shards_node(PRIMARY, "master", **at))

    for is_tls, port in ((False, plain), (True, tls)):
        (shard,) = read_shards(reply, "asked", is_tls=is_tls).shards
        assert shard.primary.address == f"10.0.0.1:{port}"


def test_shards_with_nodes_that_are_away_and_shards_without_slots() -> None:
    reply = [
        # A primary that has failed stands beside the one that was promoted; Valkey 9 names the shard.
        *shards_reply(
            [*shards_node(PRIMARY, "master", port=7001, ip="10.0.0.1", endpoint="")[:-1], b"fail"],
            shards_node(REPLICA, "master", port=7002, ip="10.0.0.2", endpoint="node.example"),
            id=b"69d08edde780bcfd3623e8a0851ddea23adae1a4",
        ),
        [b"slots", [], b"nodes", [shards_node("ee", "master", port=7003, ip="10.0.0.3")]],
    ]

    found = read_shards(reply, "asked")

    (shard,) = found.shards
    assert (shard.primary.node_id, shard.primary.address) == (REPLICA, "node.example:7002")
    assert [(it.node_id, it.address, it.is_up) for it in shard.replicas] == [
        (PRIMARY, "10.0.0.1:7001", False)
    ]
    assert (shard.ranges, found.unserved) == (((0, 100), (102, 16383)), 1)


@pytest.mark.parametrize(
    "more", [[], [[]], [[b"ip", b"10.0.0.1"]]], ids=["6.2", "7.0", "with another address"]
)
@pytest.mark.parametrize("host", [b"", None, b"?"])
def test_slots_of_every_version(more: list[Any], host: bytes | None) -> None:
    one = [b"10.0.0.1", 7001, PRIMARY.encode(), *more]
    other = [host, 7002, REPLICA.encode(), *more]

    found = read_slots([[0, 100, one, other], [102, 16383, one, other]], "asked")

    (shard,) = found.shards
    assert shard.ranges == ((0, 100), (102, 16383))
    assert (shard.primary.address, shard.primary.node_id) == ("10.0.0.1:7001", PRIMARY)
    assert [(it.address, it.is_primary) for it in shard.replicas] == [("asked:7002", False)]


def maps_of(node: ClusterNode, *, has_shards: bool) -> dict[str, ClusterMap]:
    """What each reader makes of one node's answers."""
    maps = {
        "nodes": read_nodes(node.ask("CLUSTER", "NODES").decode(), "127.0.0.1"),
        "slots": read_slots(node.ask("CLUSTER", "SLOTS"), "127.0.0.1"),
    }
    if has_shards:
        maps["shards"] = read_shards(node.ask("CLUSTER", "SHARDS"), "127.0.0.1")
    return maps


@pytest.mark.live
@pytest.mark.parametrize("name", BINARIES)
def test_the_readers_agree_on_a_cluster(name: str) -> None:
    has_shards = BINARIES[name].version_numbers >= SHARDS_SINCE
    with RunningCluster(BINARIES[name], config=PATIENT) as cluster:
        cluster.move_slot(100, cluster.primaries()[1])
        for node in cluster.nodes:
            # SLOTS leaves a replica out until gossip has told how far it is (isReplicaAvailable).
            holds(
                lambda node=node: all(
                    len(it.replicas) == 1 and len(found.shards) == 3
                    for found in maps_of(node, has_shards=has_shards).values()
                    for it in found.shards
                ),
                "all replicas are told",
            )
            maps = maps_of(node, has_shards=has_shards)
            assert len(maps) == 2 + has_shards
            for reader, found in maps.items():
                assert told(found) == told(maps["nodes"]), f"{reader} of {node.server.port}"
            assert [it.ranges for it in maps["nodes"].shards] == [
                ((0, 99), (101, 5460)),
                ((100, 100), (5461, 10921)),
                ((10922, 16383),),
            ]
