"""A place in a replication history."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The last byte of the stream that has been taken.

    replid: 40 hex digits, the history's id (empty for a source older than PSYNC, which cannot resume).
    offset: bytes since the start of that history. PSYNC asks for offset + 1, REPLCONF ACK sends offset
    (redis src/replication.c, slaveTryPartialResynchronization and replicationSendAck).
    """

    replid: str
    offset: int

    def __str__(self) -> str:
        return f"{self.replid[:8] or '-'}:{self.offset}"
