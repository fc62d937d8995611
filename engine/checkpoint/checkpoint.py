"""The checkpoint: how far a target has a source's history. Pure.

It is a hash in the target's database 0, written by every block of the stream inside the block's own
transaction (engine/codec/stream.py writes the same fields), so it is true by construction:

    redis-ferry:checkpoint:{task}:line
        format          1
        phase           snapshot (not resumable) | stream
        epoch           number of this task's runs; a higher one has taken over
        replid          the source's replication id
        offset          last byte of the stream that is applied
        db              database selected in the stream there
        ledger          id of the list of names the task has brought (engine/ledger), empty if there is none
        margin_since    moment (ms) since when TTLs may stand with a margin, 0: all are exact
        source_shard    which shard of a source cluster the line reads (supervision/planning.py)
        selection       options that choose what is taken along (engine/selection.py); not there: everything
        owner           the LineClaim that made the newest claim; not there once a snapshot has begun
        at:EPOCH:SERIAL 1: the token of the newest write; 0: of one that was turned away

**The token** keeps the writes of a line in one chain; each has the next serial number. Before each transaction stands

    WATCH checkpoint · HSETNX checkpoint at:<epoch>:<serial of the write before> 0

and the transaction itself replaces that token by its own. If the write before is there, HSETNX finds its token and
changes nothing. If it is not (it was refused, or another process has taken over), HSETNX changes the watched key
and EXEC does nothing. So a block can never be applied behind a hole, nor by a process that has been replaced,
however many blocks are on their way (t_hash.c, hsetnxCommand; multi.c, touchWatchedKey).
One hole is left: HSETNX itself refused (-OOM, -READONLY), and everything behind it accepted a moment later. Then two
tokens with the value 1 stand in the hash, and `decode` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.codec.command_text import encode
from engine.errors import TargetRefused
from engine.position import Position

PREFIX = b"redis-ferry:"
FORMAT = 1
TOKEN_PREFIX = b"at:"
GUARD_REPLIES = 2  # of WATCH and HSETNX
WRITE_REPLIES = GUARD_REPLIES + 4  # and of MULTI, HDEL, HSET, EXEC
CLAIM_SERIAL = 0  # of the write that takes a line over


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a hash says.

    position is None while the snapshot has not been applied in whole. has_hole: a write is missing before the
    newest one, so the position cannot be gone on from. tokens: all fields to be removed by who takes over.
    source_shard: as it stands there.
    """

    position: Position | None
    db: int
    epoch: int
    ledger: str = ""
    margin_since_ms: int = 0
    has_hole: bool = False
    selection: str = ""
    tokens: tuple[bytes, ...] = ()
    source_shard: str = ""


def checkpoint_key(task_id: str, line: str) -> bytes:
    """The key of one line of a task; the braces keep a task's keys in one cluster slot."""
    return b"redis-ferry:checkpoint:{%b}:%b" % (task_id.encode(), line.encode())


def token(epoch: int, serial: int) -> bytes:
    """The token of a write."""
    return b"at:%d:%d" % (epoch, serial)


def guard(key: bytes, before: bytes) -> bytes:
    """The commands that let the next transaction happen only behind the write with the token `before`."""
    return encode("WATCH", key) + encode("HSETNX", key, before, "0")


def guarded_write(
    key: bytes,
    *,
    before: bytes,
    after: bytes,
    fields: Mapping[str, str],
    commands: Sequence[bytes] = (),
    anew: bool = False,
) -> bytes:
    """A transaction that moves the token, writes fields and does `commands`: WRITE_REPLIES replies and theirs.

    anew: nothing older stays in the hash.
    """
    flat = [text for pair in fields.items() for text in pair]
    return b"".join(
        (
            guard(key, before),
            encode("MULTI"),
            encode("DEL", key) if anew else encode("HDEL", key, before),
            encode("HSET", key, *flat, after, "1"),
            *commands,
            encode("EXEC"),
        )
    )


def snapshot_fields(replid: str, epoch: int, *, ledger: str, selection: str = "") -> dict[str, str]:
    """The fields written before a snapshot's first key: from now on there is nothing to resume."""
    fields = {"format": str(FORMAT), "phase": "snapshot", "epoch": str(epoch), "replid": replid,
              "offset": "-1", "db": "0", "ledger": ledger, "margin_since": "0"}  # fmt: skip
    return fields | {"selection": selection} if selection else fields


def stream_fields(
    position: Position, db: int, epoch: int, *, ledger: str, margin_since_ms: int
) -> dict[str, str]:
    """The fields that say: everything up to `position` is applied."""
    return {"format": str(FORMAT), "phase": "stream", "epoch": str(epoch), "replid": position.replid,
            "offset": str(position.offset), "db": str(db), "ledger": ledger,
            "margin_since": str(margin_since_ms)}  # fmt: skip


def decode(fields: Mapping[bytes, bytes], key: bytes) -> Checkpoint | None:
    """The checkpoint in a hash's fields; None if there is none.

    Raises:
        TargetRefused: written by a newer redis-ferry, or not a checkpoint at all.
    """
    tokens = {name: value for name, value in fields.items() if name.startswith(TOKEN_PREFIX)}
    if len(tokens) == len(fields):
        return None  # nothing, or only what a turned-away write left
    try:
        if int(fields[b"format"]) != FORMAT:
            raise ValueError(f"format {fields[b'format']!r}")
        offset = int(fields[b"offset"])
        db = int(fields[b"db"])
        epoch = int(fields[b"epoch"])
        replid = fields[b"replid"].decode("ascii")
        is_stream = fields[b"phase"] == b"stream"
        ledger = fields.get(b"ledger", b"").decode("ascii")
        margin_since_ms = int(fields.get(b"margin_since", b"0"))
    except (KeyError, ValueError) as error:
        raise TargetRefused(
            f"the checkpoint {key.decode('utf-8', 'replace')!r} on the target cannot be read: {error}",
            hint="use the redis-ferry that wrote it, another --task-id, or delete the key to start anew",
        ) from error
    position = Position(replid, offset) if is_stream and replid and offset >= 0 else None
    return Checkpoint(
        position=position,
        db=db,
        epoch=epoch,
        ledger=ledger,
        margin_since_ms=margin_since_ms,
        selection=fields.get(b"selection", b"").decode("utf-8", "replace"),
        has_hole=sum(value == b"1" for value in tokens.values()) > 1,
        tokens=tuple(tokens),
        source_shard=fields.get(b"source_shard", b"").decode("utf-8", "replace"),
    )
