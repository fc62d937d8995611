"""The parts of the scan reader that need no server."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.codec.command_text import commands_in
from engine.codec.crc64 import crc64
from engine.codec.rdb_records import RecordReader
from engine.preflight.permissions import SCAN_PROBES, SCAN_RULES
from engine.readers.changed_keys import ChangedKeys
from engine.readers.notifications import covers_all
from engine.readers.passes import Passes
from engine.readers.scan_records import (
    KeyState,
    commands_for,
    database_head,
    key_records,
    rdb_end,
    rdb_head,
    rdb_version_of,
)
from engine.stats import ReaderStats
from tests.live.test_acl import OPERATIONS


def payload(value: bytes, version: int = 11) -> bytes:
    """DUMP of a string shorter than 64 bytes."""
    body = b"\x00" + bytes([len(value)]) + value + version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 16383, 16384, 70_000])
def test_states_become_records_of_an_rdb(size: int) -> None:
    name = b"n" * size
    states = [
        KeyState(name, payload(b"v"), -1),
        KeyState(b"gone", None, -1),
        KeyState(name + b"2", payload(b"w"), 1_700_000_000_000),
    ]
    reader = RecordReader(1 << 20)

    reader.feed(rdb_head(rdb_version_of(payload(b"v"))) + database_head(3, 2))
    reader.feed(key_records(states) + rdb_end())

    found = [it for it in reader.next_records(100) if hasattr(it, "key")]
    assert [(it.db, it.key, it.expire_at_ms) for it in found] == [
        (3, name, -1), (3, name + b"2", 1_700_000_000_000),
    ]  # fmt: skip
    assert reader.is_finished


def test_versions_have_the_magic_of_their_family() -> None:
    assert (rdb_head(9), rdb_head(80)) == (b"REDIS0009", b"VALKEY080")
    assert rdb_version_of(payload(b"x", 80)) == 80


def test_states_become_commands() -> None:
    value = payload(b"v")
    states = [KeyState(b"a", value, -1), KeyState(b"b", None, -1), KeyState(b"c", value, 5)]

    assert list(commands_in(commands_for(states))) == [
        [b"RESTORE", b"a", b"0", value, b"REPLACE", b"ABSTTL"],
        [b"DEL", b"b"],
        [b"RESTORE", b"c", b"5", value, b"REPLACE", b"ABSTTL"],
    ]


def test_changed_keys_come_once_and_in_order_also_out_of_the_file(tmp_path: Path) -> None:
    stats = ReaderStats()
    changed = ChangedKeys(stats, tmp_path, most_held=3)
    names = [b"k%d" % number for number in range(10)]
    for name in (*names, names[0]):
        changed.add(1, name)
    found = changed.take(4)
    assert stats.pending_keys == 6
    assert stats.pending_since_seconds is not None
    changed.add(2, b"late")
    while some := changed.take(4):
        found += some

    assert found == [*((1, name) for name in names), (2, b"late")]
    assert (changed.added, changed.taken, stats.pending_keys) == (11, 11, 0)
    assert stats.lag_seconds == 0
    assert list(tmp_path.iterdir()) == []
    changed.close()


def test_a_pass_gives_what_differs_and_what_is_missing(tmp_path: Path) -> None:
    passes = Passes(tmp_path, is_exact=True)
    first = [KeyState(b"k%d" % number, payload(b"v"), -1) for number in range(1000)]
    passes.begin()
    assert passes.changed(0, first) == first
    assert list(passes.missing()) == []

    other = KeyState(b"k1", payload(b"w"), -1)
    later = KeyState(b"k2", payload(b"v"), 7)
    new = KeyState(b"new", payload(b"v"), -1)
    passes.begin()
    assert passes.changed(0, [first[0], other, later, new, KeyState(b"k3", None, -1)]) == [
        other, later, new,
    ]  # fmt: skip
    # A key that SCAN gives twice, in two states: the second is the next pass's.
    assert passes.changed(0, [KeyState(b"new", payload(b"x"), -1)]) == []
    assert passes.changed(1, [first[0]]) == [first[0]]
    assert list(passes.missing()) == [(0, b"k%d" % number) for number in range(3, 1000)]

    passes.begin()
    assert passes.changed(0, [first[0], first[1], new]) == [first[1]]
    assert list(passes.missing()) == [(0, b"k2"), (1, b"k0")]
    passes.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "is_enough"),
    [("AE", True), ("AKE", True), ("g$lshzxetdE", True), ("A", False), ("E", False), ("Eg$lshz", False), ("", False)],
)  # fmt: skip
def test_only_all_classes_by_name_are_enough(flags: str, is_enough: bool) -> None:
    assert covers_all(flags) is is_enough


def test_the_documented_permissions_are_those_that_are_probed() -> None:
    text = " ".join(OPERATIONS.read_text().split())
    assert f"source (scan): ACL SETUSER ferry on >password {' '.join(SCAN_RULES)}" in text
    assert {it.rule for it in SCAN_PROBES} <= set(SCAN_RULES)
