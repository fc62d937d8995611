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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.cluster.topology import SLOTS
from engine.codec.command_text import encode
from engine.codec.slot_router import KEY_PREFIX
from engine.codec.slot_states import IS_STREAM, SlotStates
from engine.codec.slots import slot_tags
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


def questions(slots: Iterable[int], suffix: bytes) -> bytes:
    """HGETALL of these slots' checkpoints, encoded; see SlotStateReader for the answers."""
    tags = slot_tags()
    begin = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n" % (len(KEY_PREFIX) + 5 + len(suffix)) + KEY_PREFIX
    end = b"}" + suffix + b"\r\n"
    names = [tags[4 * it : 4 * it + 4] for it in slots]
    return begin + (end + begin).join(names) + end if names else b""


def joined(found: SlotStates) -> SlotCheckpoints:
    """What those of all slots say together; what cannot be read counts as not there."""
    generations = set(found.generations)
    generation = found.texts[generations.pop()] if len(generations) == 1 else b""
    in_doubt = tuple(key for _, key in found.marks)
    lowest = min(found.offsets)
    slot = found.offsets.index(lowest)
    replid = found.texts[found.replids[slot]]
    is_whole = (
        found.states.count(IS_STREAM) == SLOTS
        and lowest >= 0
        and min(found.margins) >= 0
        and min(found.dbs) >= -1
        and bool(generation)
        and bool(replid)
    )
    if not is_whole:
        return SlotCheckpoints(
            None,
            array("q", [0]) * SLOTS,
            generation.decode("ascii", "replace"),
            was_there=any(found.states),
            in_doubt=in_doubt,
        )
    return SlotCheckpoints(
        Position(replid.decode("ascii", "replace"), lowest),
        found.offsets,
        generation.decode("ascii", "replace"),
        min(filter(None, found.margins), default=0),
        found.texts[found.ledgers[SLOTS - 1]].decode("ascii", "replace"),
        was_there=True,
        in_doubt=in_doubt,
        everywhere=max(found.everywhere[0], -1),
        db=max(found.dbs[slot], 0),
    )
