"""Looks now and then for what no notification of a key tells: flushes, SWAPDB, a moved slot, a changed role or setting."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import hiredis
import structlog

from engine.endpoint import Endpoint
from engine.errors import SourceLinkLost
from engine.readers.notifications import covers_all
from engine.readers.source_connection import SourceConnection
from engine.readers.source_nodes import SourceNodes

log = structlog.get_logger("engine.readers")

LOOK_SECONDS = 1.0
_CALLS = re.compile(r"^cmdstat_(flushall|flushdb|swapdb):calls=(\d+)", re.MULTILINE)
_ROLE = re.compile(r"^role:(\w+)", re.MULTILINE)

Look = tuple[
    str, tuple[tuple[str, str], ...], bool
]  # role, calls of what takes keys away unseen, notifications


class SourceWatch:
    """`open` before anything is read, then `run`: it ends with an error when all keys must be read again.

    only_role: look for roles and moved slots alone; passes see the rest by themselves. sees_flushes: whether the source tells how often it was flushed.
    """

    def __init__(
        self,
        nodes: SourceNodes,
        *,
        timeout_seconds: float,
        only_role: bool,
    ) -> None:
        self._only_role = only_role
        self._nodes = nodes
        self._timeout_seconds = timeout_seconds
        self._connections: list[SourceConnection] = []
        self._first: list[Look] = []
        self.sees_flushes = True

    async def open(self, endpoints: Sequence[Endpoint]) -> None:
        """Connect and take the first look. Raises SourceError."""
        for endpoint in endpoints:
            connection = await SourceConnection.open(
                endpoint, timeout_seconds=self._timeout_seconds
            )
            self._connections.append(connection)
        self._first = [await self._look(it) for it in self._connections]
        if not self.sees_flushes:
            log.warning(
                "scan.flushes_not_seen",
                why="INFO commandstats tells nothing",
                means="after FLUSHALL, FLUSHDB or SWAPDB at the source keys stay on the target until all are read again",
            )

    async def run(self) -> None:
        """Look until something has changed.

        Raises:
            SourceLinkLost: what it was.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for connection, first in zip(self._connections, self._first, strict=True):
                now = await self._look(connection)
                if now != first:
                    raise SourceLinkLost(f"all keys are read again: {_difference(first, now)}")
            if not await self._nodes.is_same():
                raise SourceLinkLost(
                    "all keys are read again: slots of the source cluster have moved"
                )

    async def _look(self, connection: SourceConnection) -> Look:
        if self._only_role:
            (replication,) = await connection.ask(("INFO", "replication"))
            role = _ROLE.search(_text(replication))
            return (role[1] if role else "", (), True)
        stats, replication, config = await connection.ask(
            ("INFO", "commandstats"),
            ("INFO", "replication"),
            ("CONFIG", "GET", "notify-keyspace-events"),
        )
        text = _text(stats)
        self.sees_flushes = self.sees_flushes and "cmdstat_" in text
        role = _ROLE.search(_text(replication))
        is_on = not isinstance(config, list) or len(config) != 2 or covers_all(config[1].decode())
        return (role[1] if role else "", tuple(_CALLS.findall(text)), is_on)

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()


def _text(reply: object) -> str:
    if isinstance(reply, hiredis.ReplyError) or not isinstance(reply, bytes):
        return ""
    return reply.decode("utf-8", "replace")


def _difference(first: Look, now: Look) -> str:
    if first[0] != now[0]:
        return f"the source is no longer a {first[0]} but a {now[0]}"
    if first[1] != now[1]:
        changed = sorted({name.upper() for name, _ in {*first[1]} ^ {*now[1]}})
        return f"the source has run {', '.join(changed)}, of which no notification tells"
    return "somebody has changed notify-keyspace-events"
