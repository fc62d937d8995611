"""What is left of a group that a slot on the move turned away in part, and in what runs it goes again."""

from __future__ import annotations

from collections.abc import Mapping

from engine.codec.command_text import encode
from engine.replay.held_commands import (
    HeldPiece,
    left_of,
    pieces_left,
    run_of,
    taken_twice,
    transaction_piece,
)

ASK = "ASK 7 127.0.0.1:7001"
WAIT = "TRYAGAIN Multiple keys request during rehashing of slot"


def left(text: str, refused: Mapping[int, str]) -> list[HeldPiece]:
    return pieces_left(b"".join(encode(*it.split()) for it in text.split(" · ")), refused)


def texts(pieces: list[HeldPiece]) -> list[tuple[str, str]]:
    words = [it.data.split(b"\r\n")[2::2] for it in pieces]
    return [(b" ".join(it).decode(), piece.text) for it, piece in zip(words, pieces, strict=True)]


def runs(pieces: list[HeldPiece]) -> list[int]:
    found = []
    while pieces:
        run = run_of(pieces)
        found.append(len(run))
        pieces = pieces[len(run) :]
    return found


def test_only_what_was_turned_away_is_sent_again() -> None:
    found = left("RPUSH a 1 · RPUSH b 1 · RPUSH c 1 · DEL a b", {0: ASK, 3: WAIT})
    assert texts(found) == [("RPUSH a 1", ASK), ("DEL a b", WAIT)]
    assert taken_twice(found) == frozenset()


def test_what_was_taken_behind_it_on_its_keys_comes_again_in_its_place() -> None:
    found = left(
        "SADD c 0 · SMOVE a b 1 · SADD c 1 · SREM a 1 · SUNIONSTORE c a · INCR d · DEL c", {1: WAIT}
    )
    assert texts(found) == [
        ("SMOVE a b 1", WAIT),
        ("SREM a 1", ""),
        ("SUNIONSTORE c a", ""),  # of a key that comes again
        ("DEL c", ""),
    ]
    assert taken_twice(found) == {b"a", b"b", b"c"}


def test_behind_a_command_that_nobody_knows_everything_comes_again() -> None:
    found = left("SET a 1 · MODULE.DO a b · SET c 1", {1: WAIT})
    assert texts(found) == [("MODULE.DO a b", WAIT), ("SET c 1", "")]
    assert taken_twice(found) == {b"c"}
    found = left("DEL a b · MODULE.DO c · SET d 1", {0: WAIT})
    assert [it for it, _ in texts(found)] == ["DEL a b", "MODULE.DO c", "SET d 1"]


def test_a_run_has_one_way_and_ends_behind_several_keys() -> None:
    found = left(
        "SET a 1 · SET b 1 · DEL c · DEL d e · SET f 1 · MODULE.DO g · SET h 1",
        {0: ASK, 1: ASK, 3: WAIT, 4: "MOVED 7 127.0.0.1:7002", 5: WAIT, 6: ASK},
    )
    assert [it for it, _ in texts(found)][2] == "DEL d e"
    assert runs(found) == [2, 1, 2, 1]


def test_two_nodes_told_are_two_ways() -> None:
    found = left("SET a 1 · SET b 1", {0: ASK, 1: "ASK 7 127.0.0.1:7002"})
    assert runs(found) == [1, 1]


def test_what_a_run_leaves_keeps_its_place() -> None:
    found = left("SET a 1 · SET b 1 · DEL a b", {0: ASK, 1: ASK, 2: WAIT})
    again = left_of(run_of(found), {1: "MOVED 7 127.0.0.1:7001"})
    assert texts([*again, *found[2:]]) == [
        ("SET b 1", "MOVED 7 127.0.0.1:7001"),
        ("DEL a b", WAIT),
    ]


def test_a_transaction_is_one_piece() -> None:
    piece = transaction_piece(b"...", 5, ASK)
    assert run_of([piece]) == [piece]
    assert left_of([piece], {0: WAIT}) == [transaction_piece(b"...", 5, WAIT)]
    assert left_of([piece], {}) == []
