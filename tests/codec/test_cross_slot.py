"""What a command over several slots comes to."""

from __future__ import annotations

import pytest

from engine.codec.command_keys import keys_of
from engine.codec.command_text import commands_in
from engine.codec.cross_slot import is_for_a_server_alone, pieces_of


def words(text: str) -> list[bytes]:
    return text.encode().split()


@pytest.mark.parametrize(
    ("command", "exact", "unknown"),
    [
        ("DEL a b", ["DEL a", "DEL b"], ""),
        ("unlink a", ["UNLINK a"], ""),
        ("TOUCH a b", ["TOUCH a", "TOUCH b"], ""),
        ("MSET a 1 b 2", ["MSET a 1", "MSET b 2"], ""),
        ("MSETNX a 1 b 2", ["MSET a 1", "MSET b 2"], ""),
        ("SMOVE a b m", ["SREM a m", "SADD b m"], ""),
        ("RENAME a b", ["DEL a"], "b"),
        ("RENAMENX a b", ["DEL a"], "b"),
        ("COPY a b REPLACE", [], "b"),
        ("RPOPLPUSH a b", [], "a b"),
        ("LMOVE a b LEFT RIGHT", [], "a b"),
        ("BLMOVE a b LEFT RIGHT 0", [], "a b"),
        ("BRPOPLPUSH a b 0", [], "a b"),
        ("SUNIONSTORE d a b", [], "d"),
        ("SINTERSTORE d a d", [], "d"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", [], "d"),
        ("ZRANGESTORE d a 0 -1", [], "d"),
        ("BITOP AND d a b", [], "d"),
        ("PFMERGE d a b", [], "d"),
        ("SORT a BY w_* STORE d", [], "d"),
        ("GEORADIUS a 1 2 3 km STOREDIST d", [], "d"),
        ("GEOSEARCHSTORE d a FROMLONLAT 1 2 BYRADIUS 3 km", [], "d"),
        ("LMPOP 2 a b LEFT", [], "a b"),
        ("XREADGROUP GROUP g c STREAMS a b > >", [], "a b"),
        ("EVAL script 2 a b x", [], "a b"),
    ],
)
def test_pieces(command: str, exact: list[str], unknown: str) -> None:
    arguments = words(command)
    keys = keys_of(arguments)
    assert keys is not None
    pieces = pieces_of(arguments, keys)
    assert [next(commands_in(it.command)) for it in pieces.exact] == [words(it) for it in exact]
    assert all(it.key == next(commands_in(it.command))[1] for it in pieces.exact)
    assert [it.is_removal for it in pieces.exact] == [it[:3] in ("DEL", "UNL") for it in exact]
    assert pieces.unknown == words(unknown)


@pytest.mark.parametrize(
    ("command", "is_refused"),
    [
        ("SORT a STORE b", False),
        ("SORT a LIMIT 0 1 ASC ALPHA STORE b", False),
        ("SORT a BY nosort GET # STORE b", False),
        ("SORT a BY w_* STORE b", True),
        ("sort a get o_* store b", True),
        ("SORT a LIMIT BY GET STORE GET", False),
        ("SET BY GET", False),
    ],
)
def test_patterns_of_sort(command: str, is_refused: bool) -> None:
    assert is_for_a_server_alone(words(command)) is is_refused
