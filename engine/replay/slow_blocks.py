"""Blocks that reach the target late with expiries that have no margin: what they renew is noted, to be fetched again."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from engine.codec.block import Block
from engine.codec.stream import StreamTranscoder
from engine.replay.margin import LAG_SECONDS
from engine.replay.owed import Key
from engine.replay.renewals import keys_in_doubt, swapped


class Unconfirmed(Protocol):
    """Who has blocks on their way (delivery.py, cluster_delivery.py)."""

    @property
    def unconfirmed(self) -> list[Block]:
        """Oldest first."""


class Owing(Protocol):
    """Who sees to keys in doubt (settling.py)."""

    def note_in_doubt(self, keys: set[Key]) -> None:
        """Keys that may be gone from the target although the source has them."""


class SlowBlocks:
    """One stay's.

    sending: a block that waits for the limit or for room, and may not be among the unconfirmed ones yet.
    """

    def __init__(
        self, delivery: Unconfirmed, transcoder: StreamTranscoder, settling: Owing
    ) -> None:
        self._delivery = delivery
        self._transcoder = transcoder
        self._settling = settling
        self._follows_open_block = False
        self.sending: Block | None = None

    async def watch(self) -> None:
        """Note them not only when they are confirmed: who is killed before that must have."""
        while True:
            await asyncio.sleep(LAG_SECONDS / 2)
            self.note()

    def note(self) -> None:
        """Note those that are slow by now."""
        if any(it.is_exact and _is_slow(it) for it in self._delivery.unconfirmed):
            self._note([])

    def note_confirmed(self, block: Block) -> None:
        """A block was confirmed."""
        if block.is_exact and _is_slow(block):
            self._note([block])

    def begin(self, block: Block) -> None:
        """The open block is closed and about to be sent: keys noted before may have moved in it."""
        if self._follows_open_block and block.moves_keys:
            self._settling.note_in_doubt(keys_in_doubt(block.data, renews=False))
        self._follows_open_block = False
        self._transcoder.swapped.clear()
        self.sending = block

    def _note(self, blocks: list[Block]) -> None:
        """Note what slow ones renew, as it stands behind all that has been read: those behind them may move it."""
        unconfirmed = self._delivery.unconfirmed
        blocks = blocks + unconfirmed
        if self.sending is not None and not any(it is self.sending for it in unconfirmed):
            blocks.append(self.sending)
        found: set[Key] = set()
        for block in blocks:
            is_slow = block.is_exact and _is_slow(block)
            if is_slow or (found and block.moves_keys):
                found = keys_in_doubt(block.data, found, renews=is_slow, makes=block.is_exact)
            if is_slow:
                block.is_exact = False
        for first_db, second_db in self._transcoder.swapped:  # in the open block
            found = swapped(found, first_db, second_db)
        self._follows_open_block = bool(found)
        self._settling.note_in_doubt(found)


def _is_slow(block: Block) -> bool:
    return block.commands > 0 and time.monotonic() - block.received_seconds > LAG_SECONDS
