"""What the spool carries: bytes as they were read, with the moment they came and their place."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

# What a chunk takes in memory beside its bytes; small reads come in thousands.
OVERHEAD_BYTES = 256


class Section(Enum):
    """What a chunk is part of."""

    SNAPSHOT = auto()
    STREAM = auto()


class Chunk(NamedTuple):
    """Bytes of one section. received_seconds: monotonic; received_ms: wall clock since the epoch.

    is_late: they may have waited at the source before they were sent. offset: in the stream the source's
    offset before the first byte, in the snapshot the RDB bytes before it. generation: number of the
    snapshot or history it came with; rises with each `Spool.begin_snapshot` and `begin_stream`.

    A tuple, because one is made for every read: a frozen dataclass takes four times as long.
    """

    section: Section
    data: bytes
    received_seconds: float
    received_ms: int
    is_late: bool = False
    offset: int = 0
    generation: int = 0

    @property
    def end_offset(self) -> int:
        """Offset of the last byte, counted like `offset`."""
        return self.offset + len(self.data)

    def split(self, offset: int) -> tuple[Chunk, Chunk]:
        """The part up to `offset` and the part behind it."""
        at = offset - self.offset
        behind = self._replace(data=self.data[at:], offset=offset)
        return self._replace(data=self.data[:at]), behind
