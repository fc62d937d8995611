"""What is sent: an RDB of all keys, then the states of those that have changed."""

from __future__ import annotations

import asyncio
import secrets
import time

import structlog

from engine.background import end_tasks
from engine.codec.command_text import encode
from engine.errors import SourceProtocolError
from engine.readers.changed_keys import ChangedKeys, Key
from engine.readers.notifications import Notifications
from engine.readers.passes import Passes
from engine.readers.scan_records import (
    KeyState,
    commands_for,
    database_head,
    function_records,
    key_records,
    rdb_end,
    rdb_head,
    rdb_version_of,
)
from engine.readers.source_nodes import SourceNode, SourceNodes
from engine.stats import ReaderStats

log = structlog.get_logger("engine.readers")

CHANGES_AT_ONCE = 512
# Between two rounds of changed keys: what is written again and again is read once for all of it.
LEAST_PAUSE_SECONDS = 0.002
# Between two passes: at most half of the time a source is being read.
LEAST_PASS_PAUSE_SECONDS = 1.0
EMPTY_VERSION = 9  # of an RDB that holds nothing


class ScanStream:
    """`run` once.

    offset: bytes of the stream sent. synced_offset: where in it everything stands that the source had when the snapshot
    ended; -1 before that.
    """

    def __init__(
        self,
        nodes: SourceNodes,
        stats: ReaderStats,
        changed: ChangedKeys,
        notifications: Notifications,
        passes: Passes | None,
    ) -> None:
        self._nodes = nodes
        self._stats = stats
        self._changed = changed
        self._notifications = notifications
        self._passes = passes
        self._version = 0
        self._db = -1
        self.offset = 0
        self.synced_offset = -1

    async def run(self, writer: asyncio.StreamWriter) -> None:
        """Send. Raises SourceError; OSError: the engine went away."""
        began = time.monotonic()
        if self._passes is not None:
            self._passes.begin()
        await self._send_snapshot(writer)
        self._stats.passes += 1
        log.info(
            "scan.pass", keys=self._stats.keys_read, seconds=round(time.monotonic() - began, 2)
        )
        if self._passes is None:
            await self._follow_notifications(writer)
        else:
            await self._follow_passes(writer, self._passes, began)

    # ---- the snapshot

    async def _send_snapshot(self, writer: asyncio.StreamWriter) -> None:
        mark = secrets.token_hex(20).encode()
        writer.write(b"$EOF:" + mark + b"\r\n")
        databases = [(node, await node.databases()) for node in self._nodes.nodes]
        await self._begin_with_functions(writer)
        if self._nodes.is_cluster:
            # All nodes at the same time: each writes whole records, of one database.
            reading = [
                asyncio.create_task(self._send_database(writer, node, 0, found.get(0, 0)))
                for node, found in databases
            ]
            try:
                await asyncio.gather(*reading)
            finally:
                await end_tasks(*reading)
        else:
            for node, found in databases:
                for db, keys in sorted(found.items()):
                    await self._send_database(writer, node, db, keys)
        if not self._version:
            writer.write(rdb_head(EMPTY_VERSION))
        writer.write(rdb_end() + mark)
        await writer.drain()

    async def _begin_with_functions(self, writer: asyncio.StreamWriter) -> None:
        (payload,) = await self._nodes.nodes[0].connection.ask(("FUNCTION", "DUMP"))
        if isinstance(payload, bytes):
            self._begin(writer, payload)
            writer.write(function_records(payload))
        else:
            log.info("scan.functions_not_read", why=str(payload))

    def _begin(self, writer: asyncio.StreamWriter, payload: bytes) -> None:
        version = rdb_version_of(payload)
        if not self._version:
            self._version = version
            writer.write(rdb_head(version))
        elif version > self._version:
            raise SourceProtocolError(
                f"the nodes of the source write RDB {self._version} and RDB {version}",
                hint="wait until all of its nodes run the same version",
            )

    async def _send_database(
        self, writer: asyncio.StreamWriter, node: SourceNode, db: int, keys: int
    ) -> None:
        has_begun = False
        async for states in node.states(db):
            found = [it for it in states if it.payload is not None]
            if self._passes is not None:
                found = self._passes.changed(db, found)
            if not found:
                continue
            self._stats.keys_read += len(found)
            payload = found[0].payload
            assert payload is not None
            self._begin(writer, payload)
            if not has_begun:
                has_begun = True
                writer.write(database_head(db, keys))
            writer.write(key_records(found))
            await writer.drain()

    # ---- changes

    async def _follow_notifications(self, writer: asyncio.StreamWriter) -> None:
        await self._notifications.barrier()
        goal = self._changed.added
        while True:
            began = time.monotonic()
            keys = self._changed.take(CHANGES_AT_ONCE)
            if keys:
                await self._send_keys(writer, keys)
            if self.synced_offset < 0 and self._changed.taken >= goal:
                self.synced_offset = self.offset
            if not keys:
                self._notifications.arrived.clear()
                await self._notifications.arrived.wait()
            else:
                await asyncio.sleep(max(LEAST_PAUSE_SECONDS, time.monotonic() - began))

    async def _send_keys(self, writer: asyncio.StreamWriter, keys: list[Key]) -> None:
        by_db: dict[int, list[bytes]] = {}
        for db, name in keys:
            by_db.setdefault(db, []).append(name)
        for db, names in by_db.items():
            await self._send_states(writer, db, await self._nodes.ask_states(db, names))

    async def _send_states(
        self, writer: asyncio.StreamWriter, db: int, states: list[KeyState]
    ) -> None:
        if not states:
            return
        data = commands_for(states)
        if db != self._db:
            self._db = db
            data = encode("SELECT", db) + data
        self.offset += len(data)
        self._stats.keys_changed += len(states)
        self._stats.keys_deleted += sum(it.payload is None for it in states)
        writer.write(data)
        await writer.drain()

    async def _follow_passes(
        self, writer: asyncio.StreamWriter, passes: Passes, began: float
    ) -> None:
        while True:
            self._stats.pending_since_seconds = (
                began  # what changed since then may not be there yet
            )
            await asyncio.sleep(max(LEAST_PASS_PAUSE_SECONDS, time.monotonic() - began))
            began = time.monotonic()
            passes.begin()
            for node in self._nodes.nodes:
                for db in sorted(await node.databases()):
                    async for states in node.states(db):
                        await self._send_states(writer, db, passes.changed(db, states))
            await self._send_missing(writer, passes)
            self._stats.passes += 1
            if self.synced_offset < 0:
                self.synced_offset = self.offset
            log.debug("scan.pass", seconds=round(time.monotonic() - began, 2))

    async def _send_missing(self, writer: asyncio.StreamWriter, passes: Passes) -> None:
        asked: dict[int, list[bytes]] = {}
        for db, name in passes.missing():
            names = asked.setdefault(db, [])
            names.append(name)
            if len(names) >= CHANGES_AT_ONCE:
                await self._send_absent(writer, db, asked.pop(db))
        for db, names in asked.items():
            await self._send_absent(writer, db, names)

    async def _send_absent(self, writer: asyncio.StreamWriter, db: int, names: list[bytes]) -> None:
        gone = await self._nodes.absent(db, names)
        await self._send_states(writer, db, [KeyState(name, None, -1) for name in gone])
