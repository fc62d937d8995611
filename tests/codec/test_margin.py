"""Expiries of the stream and of the snapshot get a margin while the target is behind."""

from __future__ import annotations

from typing import Any

import pytest

from engine.codec.plan import SnapshotPlan
from engine.codec.snapshot import SnapshotTranscoder
from engine.codec.stream import StreamTranscoder
from tests.codec.stream_blocks import RECEIVED_MS, Command, apply_all, make_plan, parse, wire

MARGIN = 1_000_000_000
NEAR, FAR = RECEIVED_MS + 5000, RECEIVED_MS + 500_000_000
HORIZON = RECEIVED_MS + 100_000_000
LATE = b"%d" % (NEAR + MARGIN)


def transcoded(*commands: Any, margin_ms: int = MARGIN) -> tuple[StreamTranscoder, list[Command]]:
    transcoder = StreamTranscoder(make_plan(db=4))
    transcoder.margin_ms, transcoder.horizon_ms = margin_ms, HORIZON
    transcoder.feed(wire(*commands), RECEIVED_MS, False)
    block = transcoder.next_block(True)
    assert block is not None
    return transcoder, [command for _, command in apply_all([block])]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("PEXPIREAT", "k", NEAR), [b"PEXPIREAT", b"k", LATE]),
        (("pexpireat", "k", NEAR, "GT"), [b"PEXPIREAT", b"k", LATE]),
        (("EXPIREAT", "k", NEAR // 1000), [b"PEXPIREAT", b"k", LATE]),
        (("PEXPIRE", "k", 5000), [b"PEXPIREAT", b"k", LATE]),
        (("SETEX", "k", 5, "v"), [b"SET", b"k", b"v", b"PXAT", LATE]),
        (("SET", "k", "v", "PXAT", NEAR), [b"SET", b"k", b"v", b"PXAT", LATE]),
        (("SET", "k", "v", "NX", "exat", NEAR // 1000), [b"SET", b"k", b"v", b"NX", b"PXAT", LATE]),
        (("GETEX", "k", "PXAT", NEAR), [b"GETEX", b"k", b"PXAT", LATE]),
        (("RESTORE", "k", NEAR, "p", "ABSTTL"), [b"RESTORE", b"k", LATE, b"p", b"ABSTTL"]),
        (
            ("MSETEX", 2, "k", "v", "k2", "v2", "PXAT", NEAR),
            [b"MSETEX", b"2", b"k", b"v", b"k2", b"v2", b"PXAT", LATE],
        ),
    ],
    ids=lambda it: str(it[0]) if isinstance(it, tuple) else "",
)
def test_an_expiry_of_a_key_within_the_horizon_comes_later(
    command: tuple[Any, ...], expected: Command
) -> None:
    transcoder, commands = transcoded(command)

    assert commands == [expected]
    assert (4, b"k") in transcoder.late_keys
    assert transcoder.late_hashes == set()
    assert transcoder.margin_since_ms == RECEIVED_MS


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ("HPEXPIREAT", "h", NEAR, "FIELDS", 2, "a", "b"),
            [b"HPEXPIREAT", b"h", LATE, b"FIELDS", b"2", b"a", b"b"],
        ),
        (
            ("HEXPIREAT", "h", NEAR // 1000, "XX", "FIELDS", 1, "a"),
            [b"HPEXPIREAT", b"h", LATE, b"XX", b"FIELDS", b"1", b"a"],
        ),
        (
            ("HSETEX", "h", "FNX", "EXAT", NEAR // 1000, "FIELDS", 1, "a", "v"),
            [b"HSETEX", b"h", b"FNX", b"PXAT", LATE, b"FIELDS", b"1", b"a", b"v"],
        ),
        (
            ("HPEXPIREAT", "h", NEAR, "FIELDS", 30, *range(30)),
            [b"HPEXPIREAT", b"h", LATE, b"FIELDS", b"30", *(b"%d" % i for i in range(30))],
        ),
    ],
    ids=["ms", "s", "hsetex", "many"],
)
def test_an_expiry_of_a_field_within_the_horizon_comes_later(
    command: tuple[Any, ...], expected: Command
) -> None:
    transcoder, commands = transcoded(command)

    assert commands == [expected]
    assert transcoder.late_hashes == {(4, b"h")}


@pytest.mark.parametrize(
    "command",
    [
        ("PEXPIREAT", "k", FAR),
        ("SET", "k", "v", "PXAT", FAR),
        ("SET", "k", "v", "KEEPTTL"),
        ("SET", "PXAT", NEAR),
        ("HPEXPIREAT", "h", FAR, "FIELDS", 1, "a"),
        ("HSETEX", "h", "FIELDS", 1, "PXAT", NEAR),
        ("PEXPIREAT", "k", "soon"),
        ("PERSIST", "k"),
    ],
    ids=str,
)
def test_what_needs_no_margin_is_copied(command: tuple[Any, ...]) -> None:
    transcoder, commands = transcoded(command)

    assert commands == [[str(it).encode() for it in command]]
    assert transcoder.late_keys | transcoder.late_hashes == set()
    assert transcoder.margin_since_ms == 0


def test_without_a_margin_moments_stay_as_they_are() -> None:
    near = ("PEXPIREAT", "k", NEAR), ("HPEXPIREAT", "h", NEAR, "FIELDS", 1, "a")
    transcoder, commands = transcoded(*near, margin_ms=0)

    assert commands == [[str(it).encode() for it in command] for command in near]
    assert transcoder.late_keys | transcoder.late_hashes == set()


def test_a_key_with_a_margin_is_followed_where_it_moves() -> None:
    transcoder, _ = transcoded(
        ("PEXPIREAT", "k", NEAR),
        ("HPEXPIREAT", "h", NEAR, "FIELDS", 1, "a"),
        ("RENAME", "k", "k2"),
        ("COPY", "h", "h2", "DB", 7),
        ("SWAPDB", 4, 5),
    )

    assert {(5, b"k"), (5, b"k2")} <= transcoder.late_keys
    assert transcoder.late_hashes == {(5, b"h"), (7, b"h2")}
    assert transcoder.swaps == 1


def test_a_key_that_is_renewed_while_behind_is_to_be_fetched_as_a_whole() -> None:
    commands = wire(
        ("PEXPIREAT", "a", FAR),
        ("PERSIST", "b"),
        ("HPEXPIREAT", "c", FAR, "FIELDS", 1, "f"),
        ("HPERSIST", "d", "FIELDS", 1, "f"),
        ("RENAME", "e", "f"),
        ("SET", "g", "v", "PXAT", NEAR),
        ("INCR", "h"),
    )
    for margin_ms, expected in ((MARGIN, {b"a", b"b", b"c", b"d", b"f"}), (0, set())):
        transcoder = StreamTranscoder(make_plan(db=4))
        transcoder.margin_ms, transcoder.horizon_ms = margin_ms, HORIZON
        transcoder.verifies_keys = True
        transcoder.feed(commands, RECEIVED_MS, False)
        assert transcoder.next_block(True) is not None
        assert {key for _, key in transcoder.late_hashes} == expected
        wholes = {key for is_whole, _, key in transcoder.noted if is_whole}
        assert wholes == expected


# The snapshot

TYPES = frozenset({0, 4, 22, 24, 25})


def rdb(*records: bytes, magic: bytes = b"REDIS0012") -> bytes:
    return magic + b"\xfe\x04" + b"".join(records) + b"\xff" + b"\x00" * 8


def snapshot(data: bytes, margin_ms: int = MARGIN) -> tuple[SnapshotTranscoder, list[Command]]:
    transcoder = SnapshotTranscoder(
        SnapshotPlan(
            target_rdb_version=12, redis_types=TYPES, valkey_types=TYPES, margin_ms=margin_ms
        )
    )
    transcoder.horizon_ms = HORIZON
    transcoder.feed(data)
    block = transcoder.next_block(True)
    assert block is not None
    return transcoder, parse(block.data)[1:]  # behind SELECT


def at(moment: int) -> bytes:
    return b"\xfc" + moment.to_bytes(8, "little")


def packed(*elements: bytes) -> bytes:
    body = b"".join(elements)
    size = 6 + len(body) + 1
    count = len(elements)
    return size.to_bytes(4, "little") + count.to_bytes(2, "little") + body + b"\xff"


def moment_entry(moment: int) -> bytes:
    return b"\xf4" + moment.to_bytes(8, "little") + b"\x09"


def test_keys_of_a_snapshot_get_the_margin_and_fields_theirs() -> None:
    def little(number: int) -> bytes:
        return number.to_bytes(8, "little")

    field = b"\x01f\x01v"
    listpack = packed(b"\x81f\x02", b"\x81v\x02", moment_entry(NEAR))
    later = packed(b"\x81f\x02", b"\x81v\x02", moment_entry(NEAR + MARGIN))
    transcoder, commands = snapshot(
        rdb(
            at(NEAR) + b"\x00\x01k\x01v",
            at(FAR) + b"\x00\x01l\x01v",
            b"\x18\x01m" + little(NEAR) + b"\x01\x01" + field,
            b"\x19\x01n" + little(NEAR) + bytes([len(listpack)]) + listpack,
            b"\x18\x01o" + little(FAR) + b"\x01\x01" + field,
        )
    )

    assert commands[0] == [b"SET", b"k", b"v", b"PXAT", LATE]
    assert commands[1] == [b"SET", b"l", b"v", b"PXAT", b"%d" % FAR]
    payloads = {command[1]: command[3][1:-10] for command in commands[2:]}
    assert payloads == {
        b"m": little(NEAR + MARGIN) + b"\x01\x01" + field,
        b"n": little(NEAR + MARGIN) + bytes([len(later)]) + later,
        b"o": little(FAR) + b"\x01\x01" + field,
    }
    assert transcoder.margined == 3
    assert transcoder.late_hashes == {(4, b"m"), (4, b"n")}


def test_fields_of_a_valkey_hash_get_the_margin_one_by_one() -> None:
    def value(near: int) -> bytes:
        moments = zip(b"abc", (near, -1, FAR), strict=True)
        return b"\x03" + b"".join(
            b"\x01%c\x01v" % name + at.to_bytes(8, "little", signed=True) for name, at in moments
        )

    transcoder, commands = snapshot(rdb(b"\x16\x01h" + value(NEAR), magic=b"VALKEY080"))

    assert commands[0][3][1:-10] == value(NEAR + MARGIN)
    assert transcoder.late_hashes == {(4, b"h")}


def test_a_full_migration_has_no_margin() -> None:
    transcoder, commands = snapshot(rdb(at(NEAR) + b"\x00\x01k\x01v"), margin_ms=0)

    assert commands == [[b"SET", b"k", b"v", b"PXAT", b"%d" % NEAR]]
    assert transcoder.margined == 0
