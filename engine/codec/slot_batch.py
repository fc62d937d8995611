"""What goes to one shard of a cluster at once."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate


class SlotBatch:
    """Groups of commands for one shard, by slot. offset: of the stream behind them, -1 in the snapshot.

    data: all groups; slots, starts, replies: of each group its slot, where it begins and how many replies it gets.
    """

    __slots__ = (
        "_ends",
        "data",
        "is_transaction",
        "offset",
        "replies",
        "slots",
        "starts",
        "total_replies",
    )

    def __init__(
        self,
        data: bytes,
        slots: array[int],
        starts: array[int],
        replies: array[int],
        total_replies: int,
        offset: int,
        is_transaction: bool,
    ) -> None:
        self.data = data
        self.slots = slots
        self.starts = starts
        self.replies = replies
        self.total_replies = total_replies
        self.offset = offset
        self.is_transaction = is_transaction
        self._ends: list[int] | None = None

    def group_data(self, group: int) -> bytes:
        """The commands of one group."""
        return self.data[self.starts[group] : self.starts[group + 1]]

    def group_after(self, replies: int) -> tuple[int, int]:
        """Which group got reply number `replies`, and which of its replies that is."""
        if self._ends is None:
            self._ends = list(accumulate(self.replies))
        group = bisect_right(self._ends, replies)
        if group == len(self._ends):
            raise IndexError("a reply without a command")
        return group, replies - (self._ends[group] - self.replies[group])
