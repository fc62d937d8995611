"""What is left of a command that names keys inside and outside of a selection; and what is refused by name."""

from __future__ import annotations

import pytest

from engine.codec.command_support import CannotBridge
from engine.codec.key_filter import KeyFilter
from engine.codec.selected_commands import SelectedCommands
from engine.selection import Selection

# `a…` is taken along, `x…` is not; database 0 becomes 5, 9 is left out.
RENAMED = Selection(
    include_keys=(b"a*",),
    databases=frozenset({0, 1, 3}),
    db_map=((0, 5),),
    prefix_add=b"new:",
)


def decide(text: str, db: int = 0, selection: Selection = RENAMED) -> str | None:
    commands = SelectedCommands(
        selection, KeyFilter(selection.include_keys, selection.exclude_keys)
    )
    words = text.encode().split()
    written = commands.swapdb(words) if words[0] == b"SWAPDB" else commands.decide(words, db)
    return None if written is None else b" ".join(written).decode()


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("SET a 1", "SET new:a 1"),
        ("set x 1", None),
        ("DEL a x a2 y", "DEL new:a new:a2"),
        ("UNLINK x y", None),
        ("MSET a 1 x 2 a2 3", "MSET new:a 1 new:a2 3"),
        ("MSETNX a 1 x 2", "MSET new:a 1"),
        ("MSET x 1", None),
        ("MSETEX 2 a 1 x 2 EX 10", "MSETEX 1 new:a 1 EX 10"),
        ("MSETEX 1 x 2 EX 10", None),
        ("RENAME a a2", "RENAME new:a new:a2"),
        ("RENAME a x", "DEL new:a"),
        ("RENAMENX a x", "DEL new:a"),
        ("RENAME x y", None),
        ("COPY a a2 REPLACE", "COPY new:a new:a2 REPLACE"),
        ("COPY a a2 DB 1 REPLACE", "COPY new:a new:a2 DB 1 REPLACE"),
        ("COPY a a2 REPLACE DB 0", "COPY new:a new:a2 REPLACE"),
        ("COPY a a2 DB 9", None),
        ("COPY a x", None),
        ("MOVE a 1", "MOVE new:a 1"),
        ("MOVE a 9", "DEL new:a"),
        ("MOVE x 1", None),
        ("SMOVE a a2 m", "SMOVE new:a new:a2 m"),
        ("SMOVE a x m", "SREM new:a m"),
        ("SMOVE x a m", "SADD new:a m"),
        ("SMOVE x y m", None),
        ("RPOPLPUSH a x", "RPOP new:a"),
        ("RPOPLPUSH a a2", "RPOPLPUSH new:a new:a2"),
        ("LMOVE a x LEFT RIGHT", "LPOP new:a"),
        ("LMOVE a x RIGHT LEFT", "RPOP new:a"),
        ("BLMOVE a a2 LEFT LEFT 0", "BLMOVE new:a new:a2 LEFT LEFT 0"),
        ("LMOVE x y LEFT LEFT", None),
        ("SUNIONSTORE a a1 a2", "SUNIONSTORE new:a new:a1 new:a2"),
        ("SUNIONSTORE x a y", None),
        ("ZUNIONSTORE a 2 a1 a2 WEIGHTS 1 2", "ZUNIONSTORE new:a 2 new:a1 new:a2 WEIGHTS 1 2"),
        ("BITOP AND a a1", "BITOP AND new:a new:a1"),
        ("BITOP AND x a1", None),
        ("SORT a STORE a2", "SORT new:a STORE new:a2"),
        ("SORT a STORE x", None),
        ("GEORADIUS a 1 2 3 km STORE a2", "GEORADIUS new:a 1 2 3 km STORE new:a2"),
        ("GEOSEARCHSTORE a a1 FROMLONLAT 1 2 BYRADIUS 3 km",
         "GEOSEARCHSTORE new:a new:a1 FROMLONLAT 1 2 BYRADIUS 3 km"),
        ("XGROUP CREATE a g $", "XGROUP CREATE new:a g $"),
        ("XGROUP CREATE x g $", None),
        ("SPUBLISH x m", "SPUBLISH x m"),
        ("PUBLISH c m", "PUBLISH c m"),
        ("FUNCTION LOAD x", "FUNCTION LOAD x"),
        ("SCRIPT LOAD x", "SCRIPT LOAD x"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_command(command: str, written: str | None) -> None:
    assert decide(command) == written


@pytest.mark.parametrize(
    "command",
    [
        "RENAME x a", "COPY x a", "RPOPLPUSH x a", "LMOVE x a LEFT LEFT", "SUNIONSTORE a a1 x", "PFMERGE a x",
        "ZUNIONSTORE a 2 x a2", "BITOP AND a x", "SORT x STORE a", "SORT a BY w_* STORE a2", "EVAL return 0",
        "EVALSHA 00 1 a", "FCALL f 1 a", "JSON.SET a $ 1", "NOSUCH x", "SWAPDB 0 1", "GEORADIUS x 1 2 3 km STORE a",
        "ZRANGESTORE a x 0 1", "SWAPDB 0 9",
    ],
)  # fmt: skip
def test_what_cannot_be_divided_is_refused(command: str) -> None:
    with pytest.raises(CannotBridge):
        decide(command)


@pytest.mark.parametrize("command", ["SET a 1", "DEL a", "EVAL x 0", "NOSUCH a", "RENAME a a2", "SORT a STORE a2"])  # fmt: skip
def test_of_a_database_that_is_left_out_nothing_is_taken(command: str) -> None:
    assert decide(command, db=9) is None


def test_keys_that_come_from_a_database_that_is_left_out_are_refused() -> None:
    for command in ("MOVE a 1", "COPY a a2 DB 1"):
        with pytest.raises(CannotBridge):
            decide(command, db=9)
    assert decide("MOVE a 8", db=9) is None


def test_without_keys_in_the_selection_scripts_and_unknown_commands_pass() -> None:
    by_database = Selection(databases=frozenset({0, 1, 2}), db_map=((0, 5), (2, 6)))
    for command in ("EVAL x 0", "NOSUCH x", "JSON.SET a $ 1", "SORT a BY w_* STORE x"):
        assert decide(command, selection=by_database) == command
    assert decide("SWAPDB 0 2", selection=by_database) == "SWAPDB 5 6"
    assert decide("SWAPDB 7 8", selection=by_database) is None
    with pytest.raises(CannotBridge):
        decide("SWAPDB 0 7", selection=by_database)


def test_databases_that_share_one_do_not_swap_or_move() -> None:
    folded = Selection(db_map=((1, 0),))
    for command in ("SWAPDB 0 3", "MOVE a 1"):
        with pytest.raises(CannotBridge):
            decide(command, selection=folded)
