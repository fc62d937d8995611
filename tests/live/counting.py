"""A load that only adds: what is applied twice shows, and nothing is ever deleted or expires."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.demo.servers import RunningServer
from tests.conditions import until

KEYS = 50
PAUSE_SECONDS = 0.005


class Counting:
    """INCR, APPEND and RPUSH over a few keys in two databases, from a thread."""

    def __init__(self, server: RunningServer) -> None:
        self.commands = 0
        self._server = server
        self._stop = threading.Event()
        self._future = asyncio.create_task(asyncio.to_thread(self._run))

    def _run(self) -> None:
        with self._server.client() as one, self._server.client(db=1) as other:
            while not self._stop.wait(PAUSE_SECONDS):
                for client in (one, other):
                    number = self.commands
                    pipe = client.pipeline(transaction=bool(number % 2))
                    pipe.incr(b"count:%d" % (number % KEYS))
                    pipe.append(b"text:%d" % (number % KEYS), b"%d." % number)
                    pipe.rpush(b"list:%d" % (number % KEYS), number)
                    self.commands += len(pipe.execute())

    async def has_written(self, commands: int) -> None:
        """Wait for `commands` more than now."""
        wanted = self.commands + commands
        await until(
            lambda: self.commands >= wanted, f"{wanted} commands written", running=self._future
        )

    async def stop(self) -> None:
        self._stop.set()
        await self._future


@asynccontextmanager
async def counting(server: RunningServer) -> AsyncIterator[Counting]:
    made = Counting(server)
    try:
        yield made
    finally:
        await made.stop()
