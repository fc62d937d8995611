"""A block: the unit in which commands travel to a target shard, are limited, counted and confirmed."""

from __future__ import annotations

from array import array


class Block:
    """Encoded commands for one target shard.

    data: RESP commands, whole ones. replies: how many top-level replies they get. keys: snapshot keys in it;
    commands: source commands in it. offset: the source's stream offset after the last byte that went into
    it, -1 in the snapshot. db: database selected at the source there. received_seconds: monotonic time when
    its oldest bytes were received. sent_seconds: the same of its last byte's way into the socket, 0.0 before.
    is_transaction: data ends with EXEC, and the last reply is that of the
    commands between MULTI and it. guard_replies: replies before MULTI's own (checkpoint.py, guard).
    skipped: replies by which the target kept what it had. is_exact: expiries in it reach the target without a margin.
    moves_keys: it may have commands that make keys of others, or SWAPDB.
    is_alone: to be sent when everything before it is confirmed, and nothing behind it before it is. may_be_gone: what it
    names may have expired meanwhile. index: of a block for a cluster, where its commands lie (slot_index.py).
    """

    __slots__ = (
        "commands",
        "data",
        "db",
        "guard_replies",
        "index",
        "is_alone",
        "is_exact",
        "is_transaction",
        "keys",
        "may_be_gone",
        "moves_keys",
        "offset",
        "received_seconds",
        "replies",
        "sent_seconds",
        "shard",
        "skipped",
    )

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        *,
        data: bytes,
        replies: int,
        keys: int = 0,
        commands: int = 0,
        offset: int = -1,
        db: int = 0,
        is_transaction: bool = False,
        guard_replies: int = 0,
        shard: int = 0,
        index: array[int] | None = None,
    ) -> None:
        self.data = data
        self.replies = replies
        self.keys = keys
        self.commands = commands
        self.offset = offset
        self.db = db
        self.is_transaction = is_transaction
        self.guard_replies = guard_replies
        self.shard = shard
        self.index = index
        self.received_seconds = 0.0
        self.sent_seconds = 0.0
        self.skipped = 0
        self.is_exact = False
        self.is_alone = False
        self.may_be_gone = False
        self.moves_keys = False

    def command_index(self, reply: int, element: int) -> int:
        """Which command of `data` got reply number `reply`, or element `element` of EXEC's (-1: none)."""
        return reply if element < 0 else self.guard_replies + 1 + element

    def __repr__(self) -> str:
        return (
            f"Block(shard={self.shard}, bytes={len(self.data)}, replies={self.replies}, keys={self.keys}, "
            f"commands={self.commands}, offset={self.offset})"
        )
