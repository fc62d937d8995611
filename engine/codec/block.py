"""A block: the unit in which commands travel to a target shard, are limited, counted and confirmed."""

from __future__ import annotations


class Block:
    """Encoded commands for one target shard.

    data: RESP commands, whole ones. replies: how many top-level replies they get. keys: snapshot keys in it;
    commands: source commands in it. offset: the source's stream offset after the last byte that went into
    it, -1 in the snapshot. db: database selected at the source there. received_seconds: monotonic time when
    its oldest bytes were received. is_transaction: data starts with MULTI and ends with EXEC.
    """

    __slots__ = (
        "commands",
        "data",
        "db",
        "is_transaction",
        "keys",
        "offset",
        "received_seconds",
        "replies",
        "shard",
    )

    def __init__(
        self,
        *,
        data: bytes,
        replies: int,
        keys: int = 0,
        commands: int = 0,
        offset: int = -1,
        db: int = 0,
        is_transaction: bool = False,
        shard: int = 0,
    ) -> None:
        self.data = data
        self.replies = replies
        self.keys = keys
        self.commands = commands
        self.offset = offset
        self.db = db
        self.is_transaction = is_transaction
        self.shard = shard
        self.received_seconds = 0.0

    def __repr__(self) -> str:
        return (
            f"Block(shard={self.shard}, bytes={len(self.data)}, replies={self.replies}, keys={self.keys}, "
            f"commands={self.commands}, offset={self.offset})"
        )
