"""The checkpoints of a line on a cluster: one for each slot, in the slot itself. Pure.

    redis-ferry:slot:{four letters of that slot}:task:line
        p   snapshot (not resumable) | stream
        g   which snapshot the slot's data began with; all slots must agree
        r   the source's replication id
        o   last byte of the stream that the slot has
        b   database that the source has selected there, where the task chooses among them
        m   moment (ms) since when TTLs may stand with a margin, 0: all are exact
        l   id of the list of names the task has brought
        d:… a key of the slot whose value the source is still to be asked for (replay/keys_in_doubt.py)
        f   slot 0 only: FUNCTION and SCRIPT of the stream up to here are on every primary

Written by the slot's own transactions (codec/slot_router.py), and for all slots every few seconds. As data and checkpoint
are in one slot, they move together when the slot does, and roll back together when a primary is lost.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.cluster.topology import SLOTS
from engine.codec.command_text import encode
from engine.position import Position


@dataclass(frozen=True, slots=True)
class SlotCheckpoints:
    """What all slots say together.

    position: from where to go on; None if a slot has no checkpoint of the stream, or of another snapshot than the
    others. applied: for each slot the offset that it has. generation: the snapshot that all slots began with, or begin
    with now; empty if they disagree. was_there: a slot has one. in_doubt: marked keys of all slots. everywhere: the `f`
    of slot 0. db: selected at the source at `position`.
    """

    position: Position | None
    applied: array[int]
    generation: str = ""
    margin_since_ms: int = 0
    ledger: str = ""
    was_there: bool = False
    in_doubt: tuple[bytes, ...] = ()
    everywhere: int = -1
    db: int = 0


MARK = b"d:"
EVERYWHERE = b"f"


def slot_suffix(task_id: str, line: str) -> bytes:
    """What the names end with."""
    return b":%b:%b" % (task_id.encode(), line.encode())


def encoded_fields(fields: Mapping[str, str]) -> tuple[bytes, int]:
    """Names and values as bulk strings, and how many."""
    flat = [text for pair in fields.items() for text in pair]
    return encode(*flat).split(b"\r\n", 1)[1], len(flat)


def slot_fields(*, phase: str, generation: str, replid: str, ledger: str) -> dict[str, str]:
    """The fields of every slot, without `o` and `m`: the router knows them when it writes."""
    return {"p": phase, "g": generation, "r": replid, "l": ledger}


def joined(hashes: Sequence[Mapping[bytes, bytes]]) -> SlotCheckpoints:
    """Read those of all slots, in order; what cannot be read counts as not there."""
    applied = array("q", [0]) * SLOTS
    generations = {fields.get(b"g", b"") for fields in hashes}
    generation = generations.pop() if len(generations) == 1 else b""
    in_doubt = tuple(
        name[len(MARK) :] for fields in hashes for name in fields if name.startswith(MARK)
    )
    nothing = SlotCheckpoints(
        None,
        applied,
        generation.decode("ascii", "replace"),
        was_there=any(hashes),
        in_doubt=in_doubt,
    )
    lowest, replid, margin, ledger, db = -1, b"", 0, b"", 0
    for slot, fields in enumerate(hashes):
        try:
            if fields[b"p"] != b"stream":
                return nothing
            offset, since = int(fields[b"o"]), int(fields[b"m"])
            its_replid, ledger = fields[b"r"], fields.get(b"l", b"")
            its_db = int(fields.get(b"b", b"0"))
        except (KeyError, ValueError):
            return nothing
        applied[slot] = offset
        if since and (not margin or since < margin):
            margin = since
        if lowest < 0 or offset < lowest:
            lowest, replid, db = offset, its_replid, its_db
    if not generation or len(hashes) != SLOTS or not replid:
        return nothing
    return SlotCheckpoints(
        Position(replid.decode("ascii", "replace"), lowest),
        applied,
        generation.decode("ascii", "replace"),
        margin,
        ledger.decode("ascii", "replace"),
        was_there=True,
        in_doubt=in_doubt,
        everywhere=_number(hashes[0].get(EVERYWHERE)),
        db=db,
    )


def _number(text: bytes | None) -> int:
    return int(text) if text is not None and text.isdigit() else -1
