"""A connection to one shard of a cluster: errors are collected with their block, for each group has its own fate."""

from __future__ import annotations

from engine.codec.block import Block
from engine.target.shard_link import ShardLink


class PartBlock(Block):
    """The part of a batch that goes to one shard. groups: their numbers in the batch. errors: (reply, element, text)."""

    __slots__ = ("errors", "groups")

    def __init__(self, *, data: bytes, replies: int, groups: list[int], offset: int) -> None:
        super().__init__(data=data, replies=replies, offset=offset)
        self.groups = groups
        self.errors: list[tuple[int, int, str]] = []


class SlotLink(ShardLink):
    """A ShardLink whose PartBlocks are confirmed also with errors in them."""

    def _take_error(self, reply: int, element: int, text: str) -> None:
        base = self._reply_base
        for block in self._inflight:
            if reply < base + block.replies:
                if isinstance(block, PartBlock):
                    block.errors.append((reply - base, element, text))
                    return
                break
            base += block.replies
        super()._take_error(reply, element, text)
