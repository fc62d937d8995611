"""Which keys a block renews or makes of others, and in which database each of them stands behind it."""

from __future__ import annotations

import pytest

from engine.replay.owed import Key
from engine.replay.renewals import keys_in_doubt
from tests.codec.stream_blocks import Command, make_plan, transcode, wire

K: set[Key] = {(0, b"k")}
TO: set[Key] = {(0, b"to")}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # What keeps a key or its fields alive.
        ("EXPIRE k 100", K),
        ("pexpire k 100", K),
        ("EXPIREAT k 1900000000", K),
        ("PEXPIREAT k 1900000000000 GT", K),
        ("PERSIST k", K),
        ("GETEX k PERSIST", K),
        ("HEXPIRE k 100 FIELDS 1 f", K),
        ("HPEXPIRE k 100 FIELDS 1 f", K),
        ("HEXPIREAT k 1900000000 FIELDS 1 f", K),
        ("HpExpireAt k 1900000000000 FIELDS 2 f g", K),
        ("HPERSIST k FIELDS 1 f", K),
        ("HSETEX k PXAT 1900000000000 FIELDS 1 f v", K),
        ("HGETEX k PERSIST FIELDS 1 f", K),
        # What is made of others: only the result, the others stay what they were.
        ("SUNIONSTORE to a b", TO),
        ("SINTERSTORE to a b", TO),
        ("SDIFFSTORE to a b", TO),
        ("ZUNIONSTORE to 2 a b WEIGHTS 1 2", TO),
        ("ZINTERSTORE to 2 a b", TO),
        ("ZDIFFSTORE to 2 a b", TO),
        ("ZRANGESTORE to a 0 -1", TO),
        ("GEOSEARCHSTORE to a FROMMEMBER m BYRADIUS 1 km", TO),
        ("PFMERGE to a b", TO),
        ("RENAME a to", TO),
        ("renamenx a to", TO),
        ("COPY a to REPLACE", TO),
        ("SMOVE a to member", TO),
        ("RPOPLPUSH a to", TO),
        ("BRPOPLPUSH a to 0", TO),
        ("LMOVE a to LEFT RIGHT", TO),
        ("BLMOVE a to LEFT RIGHT 0", TO),
        ("BITOP AND to a b", TO),
        # In another database.
        ("COPY a to DB 3", {(3, b"to")}),
        ("COPY a to db 3 replace", {(3, b"to")}),
        ("COPY a to REPLACE DB 3", {(3, b"to")}),
        ("COPY db DB REPLACE", {(0, b"DB")}),
        ("MOVE k 5", {(5, b"k")}),
        # The result behind an option.
        ("SORT a STORE to", TO),
        ("SORT a BY w_* LIMIT 0 5 GET # ALPHA DESC store to", TO),
        ("GEORADIUS a 1 2 3 km STORE to", TO),
        ("GEORADIUSBYMEMBER a m 3 km STOREDIST to", TO),
        ("SORT a", set()),
        # What makes a key whole, or neither renews nor makes one.
        ("SET k v PXAT 1900000000000", set()),
        ("SET k EXPIRE", set()),
        ("MSET EXPIRE k PERSIST k", set()),
        ("RPUSH STORE to", set()),
        ("INCR k", set()),
        ("DEL k", set()),
        ("HSET k f v", set()),
        ("FLUSHALL", set()),
        ("PUBLISH EXPIRE k", set()),
    ],
)
def test_of_one_command(command: str, expected: set[Key]) -> None:
    assert keys_in_doubt(wire(command.split())) == expected


def test_names_are_bytes_of_any_kind() -> None:
    names = [b"", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"\x00\xff"]
    data = wire(*([b"PERSIST", name] for name in names))

    assert keys_in_doubt(data) == {(0, name) for name in names}
    assert keys_in_doubt(b"") == set()


def test_each_stands_in_the_database_selected_there() -> None:
    data = wire(
        ["PERSIST", "a"],
        ["SELECT", 3],
        ["PERSIST", "a"],
        ["MOVE", "b", 7],
        ["COPY", "c", "d", "DB", 8],
        ["COPY", "c", "e"],
        ["select", 12],
        ["SORT", "l", "STORE", "sorted"],
        ["SELECT", 0],
        ["PERSIST", "z"],
    )

    assert keys_in_doubt(data) == {
        (0, b"a"),
        (3, b"a"),
        (7, b"b"),
        (8, b"d"),
        (3, b"e"),
        (12, b"sorted"),
        (0, b"z"),
    }


@pytest.mark.parametrize("is_transactional", [True, False])
def test_around_the_commands_of_a_real_block_nothing_is_taken_for_one(
    is_transactional: bool,
) -> None:
    stream: list[Command] = [
        [b"SELECT", b"2"],
        [b"MULTI"],
        [b"PEXPIREAT", b"in-transaction", b"1900000000000"],
        [b"RENAME", b"a", b"b"],
        [b"EXEC"],
        [b"PERSIST", b"behind"],
        [b"SELECT", b"4"],
        [b"SET", b"made-whole", b"1"],
    ]
    _, (block,) = transcode([wire(*stream)], make_plan(is_transactional=is_transactional))

    assert block.is_transaction is is_transactional
    assert keys_in_doubt(block.data) == {(2, b"in-transaction"), (2, b"b"), (2, b"behind")}


@pytest.mark.parametrize("is_transactional", [True, False])
def test_swapdb_takes_what_was_renewed_before_it_along(is_transactional: bool) -> None:
    stream: list[Command] = [
        [b"SELECT", b"0"],
        [b"PERSIST", b"from-0"],
        [b"SELECT", b"1"],
        [b"PERSIST", b"from-1"],
        [b"SELECT", b"2"],
        [b"PERSIST", b"stays"],
        [b"SWAPDB", b"0", b"1"],
        [b"PERSIST", b"behind"],
        [b"SWAPDB", b"2", b"2"],
    ]
    _, (block,) = transcode([wire(*stream)], make_plan(is_transactional=is_transactional))

    assert keys_in_doubt(block.data) == {
        (1, b"from-0"),
        (0, b"from-1"),
        (2, b"stays"),
        (2, b"behind"),
    }


def test_swapdb_takes_what_blocks_before_it_renewed_along() -> None:
    before = keys_in_doubt(wire(["PERSIST", "a"], ["SELECT", 5], ["PERSIST", "b"]))

    assert keys_in_doubt(wire(["SWAPDB", 0, 5], ["PERSIST", "c"]), before) == {
        (5, b"a"),
        (0, b"b"),
        (0, b"c"),
    }
