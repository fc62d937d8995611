"""The comparison finds each kind of difference, and nothing where there is none."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.demo.compare import REPORTED_DIFFERENCES, Comparison, compare
from engine.demo.dataset import fill
from engine.demo.servers import RunningServer
from engine.demo.side import Expiry, Side
from engine.demo.wire import Wire, WireError
from engine.demo.writer import Workload
from tests.fix_servers import BINARIES, SERVER_NAMES, StartServer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")

OLDEST = SERVER_NAMES[0] if SERVER_NAMES else ""
NEWEST = SERVER_NAMES[-1] if SERVER_NAMES else ""
WITH_FIELD_TTLS = [it for it in SERVER_NAMES if it in {"redis-8.2", "valkey-9.1"}]
IN_AN_HOUR_MS = 3_600_000


class Pair:
    """Two servers with a connection and a client to each."""

    def __init__(self, source: RunningServer, target: RunningServer) -> None:
        self.servers = source, target
        self.wires = Wire(source.endpoint), Wire(target.endpoint)
        self.source = source.client()
        self.target = target.client()

    def both(self, *command: bytes | str | int) -> None:
        for wire in self.wires:
            wire.ask(*command)

    def in_target(self, *command: bytes | str | int) -> None:
        self.wires[1].ask(*command)

    def compare(self, ttl_tolerance_ms: int | None = None) -> Comparison:
        source, target = self.servers
        return compare(source.endpoint, target.endpoint, ttl_tolerance_ms=ttl_tolerance_ms)

    def kinds(self) -> list[tuple[bytes, str]]:
        return [(it.key, it.kind) for it in self.compare().differences]

    def close(self) -> None:
        self.source.close()
        self.target.close()
        for wire in self.wires:
            wire.close()


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[RunningServer, RunningServer]]:
    with RunningServer(BINARIES[OLDEST]) as source, RunningServer(BINARIES[NEWEST]) as target:
        yield source, target


@pytest.fixture
def pair(two_servers: tuple[RunningServer, RunningServer]) -> Iterator[Pair]:
    """The oldest and the newest server, empty."""
    made = Pair(*two_servers)
    made.both("FLUSHALL")
    yield made
    made.close()


def seed_all_types(pair: Pair) -> None:
    pair.both("SET", "string", "value")
    pair.both("RPUSH", "list", "a", "b", "c")
    pair.both("SADD", "set", "a", "b")
    pair.both("HSET", "hash", "f", "1", "g", "2")
    pair.both("ZADD", "zset", "0.1", "a", "inf", "b")
    for number in range(1, 4):
        pair.both("XADD", "stream", f"{number}-0", "n", number)
    pair.both("XGROUP", "CREATE", "stream", "group", "0")
    pair.both("XREADGROUP", "GROUP", "group", "ann", "COUNT", 2, "STREAMS", "stream", ">")
    pair.both("PFADD", "hll", "a", "b")


def test_equal_servers_of_different_versions_have_no_difference(pair: Pair) -> None:
    seed_all_types(pair)

    found = pair.compare()

    assert found.is_equal, str(found)
    assert (found.keys_source, found.keys_target) == (7, 7)


@pytest.mark.parametrize(
    ("command", "key", "kind"),
    [
        pytest.param(("DEL", "string"), b"string", "missing", id="missing key"),
        pytest.param(("SET", "more", "x"), b"more", "extra", id="extra key"),
        pytest.param(("SET", "string", "valuE"), b"string", "value", id="string"),
        pytest.param(("SET", "list", "a"), b"list", "type", id="type"),
        pytest.param(("LSET", "list", 1, "x"), b"list", "value", id="list element"),
        pytest.param(("LMOVE", "list", "list", "LEFT", "RIGHT"), b"list", "value", id="order"),
        pytest.param(("SADD", "set", "c"), b"set", "value", id="set member"),
        pytest.param(("HSET", "hash", "f", "2"), b"hash", "value", id="hash value"),
        pytest.param(("HDEL", "hash", "f"), b"hash", "value", id="hash field"),
        pytest.param(("ZADD", "zset", "0.1000000000000001", "a"), b"zset", "value", id="score"),
        pytest.param(("XDEL", "stream", "2-0"), b"stream", "value", id="stream entry"),
        pytest.param(("XSETID", "stream", "9-9"), b"stream", "value", id="stream's last id"),
        pytest.param(("XACK", "stream", "group", "1-0"), b"stream", "group", id="pending entry"),
        pytest.param(
            ("XCLAIM", "stream", "group", "bob", 0, "1-0"), b"stream", "group", id="pending owner"
        ),
        pytest.param(
            ("XCLAIM", "stream", "group", "ann", 0, "1-0", "RETRYCOUNT", 7),
            b"stream",
            "group",
            id="count of deliveries",
        ),
        pytest.param(
            ("XGROUP", "SETID", "stream", "group", "1-0"), b"stream", "group", id="group's last id"
        ),
        pytest.param(
            ("XGROUP", "CREATE", "stream", "other", "0"), b"stream", "group", id="extra group"
        ),
        pytest.param(("PFADD", "hll", "c"), b"hll", "value", id="hyperloglog"),
        pytest.param(("EXPIRE", "string", 100), b"string", "ttl", id="TTL on one side"),
    ],
)
def test_change_of_the_target_is_found_as_what_it_is(
    pair: Pair, command: tuple[str | int, ...], key: bytes, kind: str
) -> None:
    seed_all_types(pair)
    pair.in_target(*command)

    assert pair.kinds() == [(key, kind)]


def test_difference_names_database_and_facts(pair: Pair) -> None:
    with pair.servers[0].client(db=9) as source:
        source.rpush("k", "a", "b")
    with pair.servers[1].client(db=9) as target:
        target.rpush("k", "a", "x")

    (difference,) = pair.compare().differences

    assert str(difference) == "db9 b'k' value: element 1: b'b', target b'x'"


def test_ttl_is_compared_within_the_tolerance(pair: Pair) -> None:
    for client, extra_ms in ((pair.source, 0), (pair.target, 2000)):
        seconds, microseconds = client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        client.set("k", "v", pxat=now_ms + IN_AN_HOUR_MS + extra_ms)

    assert pair.kinds() == [(b"k", "ttl")]
    assert pair.compare(ttl_tolerance_ms=10_000).is_equal


@pytest.mark.skipif("valkey-9.1" not in SERVER_NAMES, reason="needs PEXPIRETIME")
def test_ttl_is_exact_to_the_millisecond_where_both_servers_tell_it(
    start_server: StartServer,
) -> None:
    pair = Pair(start_server("valkey-9.1"), start_server("valkey-9.1"))
    at_ms = 4_000_000_000_000
    pair.source.set("k", "v", pxat=at_ms)
    pair.target.set("k", "v", pxat=at_ms + 1)

    assert pair.kinds() == [(b"k", "ttl")]
    pair.close()


@pytest.mark.parametrize("name", WITH_FIELD_TTLS)
def test_ttl_of_a_hash_field_is_compared(name: str, start_server: StartServer) -> None:
    pair = Pair(start_server(name), start_server(name))
    pair.both("HSET", "h", "f", "1", "g", "2")
    pair.both("HPEXPIREAT", "h", 4_000_000_000_000, "FIELDS", 1, "f")
    assert pair.compare().is_equal

    pair.in_target("HPEXPIREAT", "h", 4_000_000_000_001, "FIELDS", 1, "f")

    assert pair.kinds() == [(b"h", "field-ttl")]
    pair.close()


@pytest.mark.skipif("valkey-9.1" not in SERVER_NAMES, reason="needs functions")
def test_library_of_functions_that_is_missing_is_found(start_server: StartServer) -> None:
    pair = Pair(start_server("valkey-9.1"), start_server("valkey-9.1"))
    code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    pair.wires[0].ask("FUNCTION", "LOAD", code)

    assert pair.kinds() == [(b"lib", "function")]
    pair.close()


def test_cached_cardinality_and_idle_consumers_are_no_difference(pair: Pair) -> None:
    seed_all_types(pair)
    pair.target.pfcount("hll")
    assert pair.source.get("hll") != pair.target.get("hll")
    pair.in_target("XGROUP", "CREATECONSUMER", "stream", "group", "idle")

    assert pair.kinds() == []


def test_checkpoints_of_the_engine_are_ignored(pair: Pair) -> None:
    pair.target.set("redis-ferry:checkpoint:t1", "x")

    found = pair.compare()

    assert found.is_equal
    assert found.keys_target == 0


def test_all_differences_are_counted_and_the_first_are_listed(pair: Pair) -> None:
    for number in range(2 * REPORTED_DIFFERENCES + 1):
        pair.source.set(f"k{number}", "v")

    found = pair.compare()

    assert found.total_differences == 2 * REPORTED_DIFFERENCES + 1
    assert len(found.differences) == REPORTED_DIFFERENCES


def test_key_about_to_expire_on_one_side_only_is_no_difference(pair: Pair) -> None:
    pair.source.set("short", "v", px=400)
    pair.source.set("long", "v", px=IN_AN_HOUR_MS)

    assert pair.kinds() == [(b"long", "missing")]


def test_difference_that_is_gone_at_the_second_look_is_not_reported(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.source.set("k", "v")
    looks: list[int] = []

    def send_types(side: Side, keys: list[bytes]) -> None:
        looks.append(len(keys))
        if len(looks) == 2:
            pair.target.set("k", "v")
        real(side, keys)

    real = Side.send_types
    monkeypatch.setattr(Side, "send_types", send_types)

    assert pair.kinds() == []
    assert looks == [1, 1]


def test_gap_between_expiries_is_what_is_certain() -> None:
    assert Expiry(10, 20).gap_ms(Expiry(20, 30)) == 0
    assert Expiry(10, 20).gap_ms(Expiry(25, 30)) == 5
    assert Expiry(25, 30).gap_ms(Expiry(10, 20)) == 5


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_replica_of_a_server_under_the_mixed_load_equals_it(
    name: str, start_server: StartServer
) -> None:
    at_once = {"repl-diskless-sync-delay": 0}
    source, replica = start_server(name, config=at_once), start_server(name)
    fill(source.endpoint, 1500, seed=5, field_ttls=name in WITH_FIELD_TTLS)
    with source.client() as client, replica.client() as other:
        other.replicaof(source.host, source.port)
        workload = Workload(source.endpoint, seed=5, field_ttls=name in WITH_FIELD_TTLS)

        report = workload.run(threading.Event(), max_commands=20_000)

        # WAIT counts a replica once it has confirmed all that this connection's past writes are part
        # of, so a write of its own comes first.
        client.set("last", "1")
        assert client.wait(1, 10_000) == 1
        stats = client.info("commandstats")
    # Redis 6.2 gives its replicas relative TTLs, so theirs end later by what the way took.
    tolerance_ms = 5000 if name == "redis-6.2" else 0
    found = compare(source.endpoint, replica.endpoint, ttl_tolerance_ms=tolerance_ms)

    assert found.is_equal, str(found)
    assert report.transactions > 50
    assert report.popped > 0
    assert len(stats) > 60


def test_refused_password_is_reported(start_server: StartServer) -> None:
    server = start_server(OLDEST, config={"requirepass": "secret"})
    intruder = replace(server.endpoint, password="guess")

    assert compare(server.endpoint, server.endpoint).is_equal
    with pytest.raises(WireError, match="WRONGPASS"):
        compare(server.endpoint, intruder)
