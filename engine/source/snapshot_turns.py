"""Who may make a snapshot now: a host with several source shards forks only for so many at a time."""

from __future__ import annotations

import asyncio


class Turn:
    """The right to take one snapshot; ends once."""

    def __init__(self, free: asyncio.Semaphore | None) -> None:
        self._free = free

    def end(self) -> None:
        """The snapshot has been received, or its link is gone."""
        free, self._free = self._free, None
        if free is not None:
            free.release()


class SnapshotTurns:
    """Shared by the lines of a task. per_host: at the same time; 0: no limit.

    waiting: lines that wait for their turn now.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str, asyncio.Semaphore] = {}
        self.waiting = 0

    async def take(self, host: str) -> Turn:
        """Wait for a turn on this host."""
        if not self._per_host:
            return Turn(None)
        free = self._hosts.setdefault(host, asyncio.Semaphore(self._per_host))
        self.waiting += 1
        try:
            await free.acquire()
        finally:
            self.waiting -= 1
        return Turn(free)
