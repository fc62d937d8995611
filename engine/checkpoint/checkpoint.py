"""The checkpoint: how far a target has a source's history. Pure.

It is a hash in the target's database 0, written by every block of the stream inside the block's own
transaction (engine/codec/stream.py writes the same fields), so it is true by construction:

    redis-ferry:checkpoint:{task}:line
        format   1
        phase    snapshot (not resumable) | stream
        epoch    number of this task's runs; a higher one has taken over
        replid   the source's replication id
        offset   last byte of the stream that is applied
        db       database selected in the stream there
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import TargetRefused
from engine.position import Position

PREFIX = b"redis-ferry:"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """position is None while the snapshot has not been applied in whole."""

    position: Position | None
    db: int
    epoch: int


def checkpoint_key(task_id: str, line: str) -> bytes:
    """The key of one line of a task; the braces keep a task's keys in one cluster slot."""
    return b"redis-ferry:checkpoint:{%b}:%b" % (task_id.encode(), line.encode())


def snapshot_fields(replid: str, epoch: int) -> dict[str, str]:
    """The fields written before a snapshot's first key: from now on there is nothing to resume."""
    return {"format": str(FORMAT), "phase": "snapshot", "epoch": str(epoch), "replid": replid,
            "offset": "-1", "db": "0"}  # fmt: skip


def stream_fields(position: Position, db: int, epoch: int) -> dict[str, str]:
    """The fields that say: everything up to `position` is applied."""
    return {"format": str(FORMAT), "phase": "stream", "epoch": str(epoch), "replid": position.replid,
            "offset": str(position.offset), "db": str(db)}  # fmt: skip


def decode(fields: Mapping[bytes, bytes], key: bytes) -> Checkpoint | None:
    """The checkpoint in a hash's fields; None if there is none.

    Raises:
        TargetRefused: written by a newer redis-ferry, or not a checkpoint at all.
    """
    if not fields:
        return None
    try:
        if int(fields[b"format"]) != FORMAT:
            raise ValueError(f"format {fields[b'format']!r}")
        offset = int(fields[b"offset"])
        db = int(fields[b"db"])
        epoch = int(fields[b"epoch"])
        replid = fields[b"replid"].decode("ascii")
        is_stream = fields[b"phase"] == b"stream"
    except (KeyError, ValueError) as error:
        raise TargetRefused(
            f"the checkpoint {key.decode('utf-8', 'replace')!r} on the target cannot be read: {error}",
            hint="use the redis-ferry that wrote it, another --task-id, or delete the key to start anew",
        ) from error
    position = Position(replid, offset) if is_stream and replid and offset >= 0 else None
    return Checkpoint(position=position, db=db, epoch=epoch)
