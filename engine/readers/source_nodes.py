"""The server, or the primaries of a cluster, that are read by SCAN and DUMP."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import hiredis
import structlog

from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.places import place_of
from engine.cluster.topology import ClusterMap
from engine.codec.command_text import encode
from engine.codec.slots import key_slot
from engine.endpoint import Endpoint
from engine.errors import SourceNotReady, SourceRefused
from engine.readers.scan_records import KeyState
from engine.readers.source_connection import SourceConnection

log = structlog.get_logger("engine.readers")

SCAN_COUNT = 1000
# Values on their way at a time: many small ones, few big ones, so that neither side holds much.
MOST_KEYS = 512
WINDOW_BYTES = 4 * 1024 * 1024
AHEAD = 2  # requests that are on their way
MOMENTS_SINCE = (7, 0)  # PEXPIRETIME
TRIES = 50
RETRY_SECONDS = 0.1


class SourceNode:
    """One server and its data connection. Only one reader at a time: `lock`."""

    def __init__(self, connection: SourceConnection, *, tells_moments: bool) -> None:
        self.connection = connection
        self.lock = asyncio.Lock()
        self._tells_moments = tells_moments
        self._db = 0
        self._largest = 1024.0  # of the latest payloads, falling off

    @property
    def window(self) -> int:
        """How many values to ask for at a time."""
        return max(1, min(MOST_KEYS, int(WINDOW_BYTES / self._largest)))

    async def databases(self) -> dict[int, int]:
        """Keys by database."""
        (info,) = await self.connection.ask(("INFO", "keyspace"))
        text = self.connection.check("INFO", info).decode("utf-8", "replace")
        found = {}
        for line in text.splitlines():
            name, _, figures = line.partition(":keys=")
            if name.startswith("db") and name[2:].isdigit():
                found[int(name[2:])] = int(figures.partition(",")[0])
        return found

    async def states(self, db: int) -> AsyncIterator[list[KeyState]]:
        """Every key of a database: its names come a page at a time, the values a window at a time.

        A key that goes meanwhile comes without a payload, one that comes or changes may or may not be there.
        """
        waiting: deque[bytes] = deque()
        on_way: deque[list[bytes] | None] = deque()  # None: a page of names
        cursor: bytes | None = b"0"
        async with self.lock:
            await self._select(db)
            while cursor is not None or waiting or on_way:
                while waiting and len(on_way) < AHEAD:
                    names = [waiting.popleft() for _ in range(min(self.window, len(waiting)))]
                    self._send_questions(names)
                    on_way.append(names)
                if cursor is not None and not waiting and None not in on_way:
                    self.connection.send(encode("SCAN", cursor, "COUNT", SCAN_COUNT))
                    on_way.append(None)
                asked = on_way.popleft()
                if asked is None:
                    (page,) = await self.connection.receive(1)
                    self.connection.check("SCAN", page)
                    waiting.extend(page[1])
                    cursor = None if page[0] == b"0" else page[0]
                else:
                    yield self._read(asked, await self.connection.receive(2 * len(asked) + 1))

    async def ask_states(self, db: int, names: Sequence[bytes]) -> list[KeyState]:
        """The states of these keys.

        Raises:
            Moved: the node of a cluster has not got one of them.
        """
        found: list[KeyState] = []
        async with self.lock:
            await self._select(db)
            at = 0
            while at < len(names):
                some = list(names[at : at + self.window])
                at += len(some)
                self._send_questions(some)
                found += self._read(some, await self.connection.receive(2 * len(some) + 1))
        return found

    async def absent(self, db: int, names: Sequence[bytes]) -> list[bytes]:
        """Which of these keys are not there."""
        async with self.lock:
            await self._select(db)
            answers = await self.connection.ask(*(("EXISTS", name) for name in names))
        return [name for name, it in zip(names, answers, strict=True) if it == 0]

    async def _select(self, db: int) -> None:
        if db != self._db:
            (answer,) = await self.connection.ask(("SELECT", db))
            self.connection.check("SELECT", answer)
            self._db = db

    def _send_questions(self, names: Iterable[bytes]) -> None:
        form = (
            b"*2\r\n$4\r\nDUMP\r\n$%d\r\n%b\r\n*2\r\n$11\r\nPEXPIRETIME\r\n$%d\r\n%b\r\n"
            if self._tells_moments
            else b"*2\r\n$4\r\nDUMP\r\n$%d\r\n%b\r\n*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n"
        )
        self.connection.send(
            b"*1\r\n$4\r\nTIME\r\n" + b"".join([form % (len(it), it, len(it), it) for it in names])
        )

    def _read(self, names: Sequence[bytes], answers: Sequence[Any]) -> list[KeyState]:
        now_ms = 0
        if not self._tells_moments:
            moment = self.connection.check("TIME", answers[0])
            now_ms = int(moment[0]) * 1000 + int(moment[1]) // 1000
        largest = self._largest / 2
        found = []
        for name, payload, left in zip(names, answers[1::2], answers[2::2], strict=True):
            if isinstance(payload, hiredis.ReplyError) or isinstance(left, hiredis.ReplyError):
                self._refuse(payload if isinstance(payload, hiredis.ReplyError) else left)
            if payload is None or left == -2:
                found.append(KeyState(name, None, -1))
                continue
            size = len(payload)
            largest = max(largest, size)
            found.append(KeyState(name, payload, now_ms + left if left >= 0 else -1))
        self._largest = max(largest, 1024.0)
        return found

    def _refuse(self, error: hiredis.ReplyError) -> None:
        text = str(error)
        if text.startswith(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")):
            raise Moved(text)
        raise self.connection.refusal("DUMP", text)


class Moved(Exception):
    """A key is on another node of the cluster now."""


class SourceNodes:
    """All primaries. `open` finds them; `is_same` tells whether they still are these."""

    def __init__(self, source: Endpoint, *, timeout_seconds: float) -> None:
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._map: ClusterMap | None = None
        self._by_slot: dict[int, SourceNode] = {}
        self.nodes: list[SourceNode] = []
        self.version = ""
        self.run_id = ""
        self.replid = ""

    @property
    def is_cluster(self) -> bool:
        """Whether the source is one."""
        return self._map is not None

    @property
    def endpoints(self) -> list[Endpoint]:
        """Of the nodes."""
        return [it.connection.endpoint for it in self.nodes]

    async def open(self) -> None:
        """Find the primaries and connect to each.

        Raises:
            SourceError: of any kind; nothing stays open.
        """
        self.close()
        first = await place_of(self._source, role="source").locate()
        connection = await self._connect(first)
        try:
            info = await self._about(connection)
            self.version = info.get("valkey_version") or info.get("redis_version", "")
            self.run_id, self.replid = info.get("run_id", ""), info.get("master_replid", "")
            if info.get("cluster_enabled") == "1":
                connection.close()
                await self._open_cluster()
            else:
                self.nodes = [self._node(connection)]
        except BaseException:
            connection.close()
            self.close()
            raise

    async def _open_cluster(self) -> None:
        found = await self.ask_map()
        if found is None or found.unserved:
            raise SourceNotReady("slots of the source cluster are served by nobody")
        if found.moving:
            raise SourceNotReady(
                f"slot {min(found.moving)} of the source cluster is being moved",
                hint="keys that move cannot be told from keys that go: reading begins when it has arrived",
            )
        self._map = found
        for shard in found.shards:
            connection = await self._connect(endpoint_of(shard.primary, self._source))
            node = self._node(connection)
            self.nodes.append(node)
            for slot in shard.slots:
                self._by_slot[slot] = node

    def _node(self, connection: SourceConnection) -> SourceNode:
        numbers = tuple(int(it) for it in self.version.split(".")[:2] if it.isdigit())
        return SourceNode(connection, tells_moments=numbers >= MOMENTS_SINCE)

    async def _connect(self, endpoint: Endpoint) -> SourceConnection:
        return await SourceConnection.open(
            replace(endpoint, more=()), timeout_seconds=self._timeout_seconds
        )

    async def _about(self, connection: SourceConnection) -> dict[str, str]:
        info = await connection.ask(("INFO",))
        text = connection.check("INFO", info[0]).decode("utf-8", "replace")
        pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
        return {name: value for name, _, value in pairs}

    async def ask_map(self) -> ClusterMap | None:
        """The cluster's map as it is now; None where the source is no cluster."""
        return await ask_cluster_map(
            self._source, role="source", timeout_seconds=self._timeout_seconds, known=self._map
        )

    async def is_same(self) -> bool:
        """Whether the same nodes serve the same slots, and none is on its way."""
        if self._map is None:
            return True
        found = await self.ask_map()
        if found is None or found.moving:
            return False
        before, now = (
            {(it.primary.node_id, it.ranges) for it in map_.shards} for map_ in (self._map, found)
        )
        return before == now

    async def ask_states(self, db: int, names: Sequence[bytes]) -> list[KeyState]:
        """The states of keys, wherever they are.

        Raises:
            SourceNotReady: a key's slot is being moved, for longer than is waited for.
        """
        if not self.is_cluster:
            return await self.nodes[0].ask_states(db, names)
        by_node: dict[int, list[bytes]] = {}
        for name in names:
            node = self._by_slot[key_slot(name)]
            by_node.setdefault(self.nodes.index(node), []).append(name)
        try:
            answers = await asyncio.gather(
                *(self.nodes[at].ask_states(db, some) for at, some in by_node.items())
            )
        except Moved as error:
            raise SourceNotReady(
                f"slots of the source cluster are on their way: {error}",
                hint="all keys are read again once they have arrived",
            ) from error
        return [state for states in answers for state in states]

    async def absent(self, db: int, names: Sequence[bytes]) -> list[bytes]:
        """Which of these keys are not there."""
        if not self.is_cluster:
            return await self.nodes[0].absent(db, names)
        return [it.name for it in await self.ask_states(db, names) if it.payload is None]

    def close(self) -> None:
        """Close all connections."""
        for node in self.nodes:
            node.connection.close()
        self.nodes, self._by_slot, self._map = [], {}, None


def require_version(nodes: SourceNodes) -> None:
    """See that the source can be read at all.

    Raises:
        SourceRefused: it is older than DUMP and SCAN.
    """
    numbers = tuple(int(it) for it in nodes.version.split(".")[:2] if it.isdigit())
    if (0, 0) < numbers < (2, 8):
        raise SourceRefused(
            f"the source is a Redis {nodes.version}, which has no SCAN",
            hint="use --source-reader psync, which takes any version",
        )
