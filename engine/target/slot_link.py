"""A connection to one shard of a cluster: errors are collected with their block, for each group has its own fate."""

from __future__ import annotations

import asyncio
import sys

from engine.codec.block import Block
from engine.errors import EngineError
from engine.target.shard_link import ShardLink


class PartBlock(Block):
    """What goes to one shard at once. errors: (reply, element, text). done: when all its replies have come."""

    __slots__ = ("done", "errors")

    def __init__(self, *, data: bytes, replies: int, offset: int) -> None:
        super().__init__(data=data, replies=replies, offset=offset)
        self.errors: list[tuple[int, int, str]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SlotLink(ShardLink):
    """A ShardLink whose PartBlocks are confirmed also with errors in them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As that of ShardLink. Every error counts: a batch may be refused as a whole, group by group."""
        super().connection_made(transport)
        self._skimmer.most_errors = sys.maxsize

    async def deliver(self, part: PartBlock) -> None:
        """Send it and wait for all its replies; raises the error that ended the link."""
        self.send(part)
        await part.done

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

    def _confirmed(self, block: Block) -> None:
        super()._confirmed(block)
        if isinstance(block, PartBlock) and not block.done.done():
            block.done.set_result(None)

    def fail(self, error: EngineError) -> None:
        """As that of ShardLink; whoever waits for replies gets the error."""
        super().fail(error)
        for block in self._inflight:
            if isinstance(block, PartBlock) and not block.done.done():
                block.done.set_exception(error)
