"""What asks a cluster's delivery for the checkpoints of all slots, in its place among the blocks."""

from __future__ import annotations

from engine.codec.block import Block


class SweepBlock(Block):
    """Not commands: the checkpoint of every slot. every_slot: see SlotRouter.take_batch. is_due: now, not when it pleases."""

    __slots__ = ("every_slot", "is_due")

    def __init__(
        self, every_slot: tuple[bytes, int], *, offset: int, db: int, is_due: bool
    ) -> None:
        super().__init__(data=b"", replies=0, offset=offset, db=db)
        self.every_slot = every_slot
        self.is_due = is_due
