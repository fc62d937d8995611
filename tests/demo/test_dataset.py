"""The data set has every type, encoding and kind of key that it promises."""

from __future__ import annotations

import pytest

from engine.demo.compare import compare
from engine.demo.dataset import DATABASES, fill
from engine.demo.values import WEIGHTS
from engine.demo.wire import Wire
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")

OLDEST = SERVER_NAMES[0] if SERVER_NAMES else ""
KEYS = 3000
# By TYPE: encodings of 6.2, and what later versions call them.
ENCODINGS = {
    b"string": [{b"int"}, {b"embstr"}, {b"raw"}],
    b"list": [{b"ziplist", b"listpack", b"quicklist"}],
    b"set": [{b"intset"}, {b"hashtable"}],
    b"hash": [{b"ziplist", b"listpack"}, {b"hashtable"}],
    b"zset": [{b"ziplist", b"listpack"}, {b"skiplist"}],
    b"stream": [{b"stream"}],
}


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_every_type_and_encoding_is_there_and_keys_are_as_many_as_asked(
    name: str, start_server: StartServer
) -> None:
    server = start_server(name)

    assert fill(server.endpoint, KEYS, seed=7) == KEYS

    found: dict[bytes, set[bytes]] = {}
    counts: dict[int, int] = {}
    with Wire(server.endpoint) as wire:
        for db, _ in DATABASES:
            wire.ask("SELECT", db)
            keys = wire.ask("KEYS", "*")
            counts[db] = len(keys)
            for key in keys:
                encodings = found.setdefault(wire.ask("TYPE", key), set())
                encodings.add(wire.ask("OBJECT", "ENCODING", key))
    assert sum(counts.values()) == KEYS
    assert all(counts.values())
    for kind, wanted in ENCODINGS.items():
        for encoding in wanted:
            assert found[kind] & encoding, f"{kind!r} has only {found[kind]}"


def test_same_seed_gives_the_same_data_on_another_version(start_server: StartServer) -> None:
    one, other = start_server(OLDEST), start_server(SERVER_NAMES[-1])
    fill(one.endpoint, KEYS, seed=11)
    fill(other.endpoint, KEYS, seed=11)

    # The TTLs are relative, so they differ by the time between the two.
    assert str(compare(one.endpoint, other.endpoint, ttl_tolerance_ms=60_000)).endswith(
        f"{KEYS} keys in the source, {KEYS} in the target, 0 differences"
    )


def test_other_seed_gives_other_data(start_server: StartServer) -> None:
    one, other = start_server(OLDEST), start_server(OLDEST)
    fill(one.endpoint, 500, seed=1)
    fill(other.endpoint, 500, seed=2)

    assert compare(one.endpoint, other.endpoint).total_differences > 100


def test_a_fifth_of_the_keys_expires_and_none_soon(start_server: StartServer) -> None:
    server = start_server(OLDEST)
    fill(server.endpoint, KEYS, seed=3)

    ttls: list[int] = []
    with Wire(server.endpoint) as wire:
        for db, _ in DATABASES:
            wire.ask("SELECT", db)
            ttls += [wire.ask("PTTL", key) for key in wire.ask("KEYS", "*")]
    expiring = [ttl for ttl in ttls if ttl >= 0]
    assert 0.15 < len(expiring) / len(ttls) < 0.25
    assert min(expiring) > 120_000
    assert max(expiring) > 86_400_000


def test_keys_are_also_empty_binary_long_and_numbers(start_server: StartServer) -> None:
    server = start_server(OLDEST)
    fill(server.endpoint, 1000, seed=3)

    with Wire(server.endpoint) as wire:
        keys = wire.ask("KEYS", "*")
    assert b"" in keys
    assert any(b"\r\n" in key for key in keys)
    assert any(len(key) > 500 for key in keys)
    assert any(key.isdigit() for key in keys)


def test_streams_have_pending_entries_in_groups(start_server: StartServer) -> None:
    server = start_server(OLDEST)
    fill(server.endpoint, KEYS, seed=3)

    pending = 0
    with Wire(server.endpoint) as wire:
        for key in wire.ask("KEYS", "*"):
            if wire.ask("TYPE", key) == b"stream":
                groups = wire.ask("XINFO", "GROUPS", key)
                pending += sum(group[group.index(b"pending") + 1] for group in groups)
    assert pending > 50


def test_smallest_data_set_has_one_key_of_each_kind(start_server: StartServer) -> None:
    server = start_server(OLDEST)
    fill(server.endpoint, len(WEIGHTS), seed=3, databases=[(0, 100)])

    with Wire(server.endpoint) as wire:
        kinds = [wire.ask("TYPE", key) for key in wire.ask("KEYS", "*")]
    assert len(kinds) == len(WEIGHTS)
    assert kinds.count(b"stream") == 4
    assert set(kinds) == set(ENCODINGS)
