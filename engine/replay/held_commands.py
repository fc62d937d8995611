"""The commands of a slot that is being moved: which are left to send, and which of those may go at once. Pure.

A key of such a slot is on one of two nodes; the one that gives the slot away answers ASK for what it does not have, and
TRYAGAIN where only some of a command's keys are there (cluster.c, getNodeByQuery). So each command has its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from engine.codec.command_keys import keys_of
from engine.codec.command_text import commands_in, encode


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """What is sent again as a whole: a command, or a transaction.

    keys: None if it may be about any of the slot's. text: the error reply that turned it away, empty if it was taken and
    has to be sent again all the same.
    """

    data: bytes
    replies: int
    keys: frozenset[bytes] | None
    text: str = ""

    @property
    def asked_at(self) -> str:
        """The reply, if it names the node that takes it behind an ASKING, else nothing: it is for whoever serves the slot."""
        return self.text if self.text.startswith("ASK") else ""


def transaction_piece(data: bytes, replies: int, text: str) -> HeldPiece:
    """A whole MULTI … EXEC."""
    return HeldPiece(data, replies, None, text)


def pieces_left(data: bytes, refused: Mapping[int, str]) -> list[HeldPiece]:
    """Of a group's commands, of which those with the numbers `refused` were turned away."""
    return left_of((_piece(it) for it in commands_in(data)), refused)


def left_of(pieces: Iterable[HeldPiece], refused: Mapping[int, str]) -> list[HeldPiece]:
    """What is to be sent again: what was turned away, and what was taken behind it and has a key of it, else that one would come too late.

    The second kind is applied twice (`taken_twice`); without a transaction around them (at-least-once) commands can come to this.
    """
    left: list[HeldPiece] = []
    late: set[bytes] = set()
    is_any_late = False
    for n, piece in enumerate(pieces):
        is_late = bool(left) and (
            is_any_late or piece.keys is None or not late.isdisjoint(piece.keys)
        )
        if n not in refused and not is_late:
            continue
        left.append(replace(piece, text=refused.get(n, "")))
        is_any_late = is_any_late or piece.keys is None
        late |= piece.keys or frozenset()
    return left


def taken_twice(left: Sequence[HeldPiece]) -> frozenset[bytes]:
    """The keys that are not as they should be when all that is left is applied: a command on them came too early, and comes again.

    Of commands that the table does not know the keys are not told.
    """
    if all(it.text for it in left):
        return frozenset()
    return frozenset().union(*(it.keys or () for it in left))


def run_of(pieces: Sequence[HeldPiece]) -> Sequence[HeldPiece]:
    """The first ones that may go at once: to one node, and none behind one that may be turned away because of its other keys."""
    run = list(takewhile(lambda it: it.asked_at == pieces[0].asked_at, pieces))
    several = next((n for n, it in enumerate(run) if it.keys is None or len(it.keys) > 1), len(run))
    return run[: several + 1]


def _piece(command: list[bytes]) -> HeldPiece:
    places = keys_of(command)
    keys = None if places is None else frozenset(command[it.index] for it in places)
    return HeldPiece(encode(*command), 1, keys)
