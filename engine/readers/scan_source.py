"""A server that serves no replicas, as a replication source: SCAN and DUMP make a snapshot, changed keys a stream.

The stream is made of states, not of commands: `RESTORE key … REPLACE ABSTTL` or `DEL key` for each key that has changed.
So it can be begun anew at any time, and is, whenever changes may have been missed.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from pathlib import Path
from typing import Any

import structlog

from engine.background import end_tasks
from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.position import Position
from engine.readers.change_choice import ChangeChoice
from engine.readers.changed_keys import ChangedKeys
from engine.readers.notifications import Notifications
from engine.readers.passes import Passes
from engine.readers.replication_socket import ReplicationSocket
from engine.readers.scan_stream import ScanStream
from engine.readers.source_nodes import MOMENTS_SINCE, SourceNodes, require_version
from engine.readers.source_watch import SourceWatch
from engine.settings import ScanChanges
from engine.stats import ReaderStats

log = structlog.get_logger("engine.readers")

GUARANTEES = (
    "final values are the source's once it is quiet; no order between keys, transactions not kept together, values in "
    "between skipped, no Pub/Sub messages, functions as of the start; after a restart all keys are read again"
)


class ScanSource:
    """Create, hand `endpoint` to the engine, `start`, and `close` at the end.

    stats: what it has done. directory: for its files; None: the system's folder for such.
    """

    def __init__(
        self,
        source: Endpoint,
        *,
        changes: ScanChanges = ScanChanges.AUTO,
        timeout_seconds: float = 10.0,
        directory: Path | None = None,
    ) -> None:
        self.stats = ReaderStats(name="scan")
        self._source = source
        self._choice = ChangeChoice(changes)
        self._timeout_seconds = timeout_seconds
        self._nodes = SourceNodes(source, timeout_seconds=timeout_seconds)
        self._feed = _ScanFeed(self._nodes, self._choice, self.stats, directory, timeout_seconds)
        self._socket = ReplicationSocket(self._feed)

    @property
    def endpoint(self) -> Endpoint:
        """The address that the engine connects to."""
        return self._socket.endpoint

    async def start(self, *, looks_first: bool = True) -> None:
        """Connect once, find out how changes can be learnt of, and listen.

        looks_first: False only listens: the source may be away for the moment, and has been looked at before.

        Raises:
            SourceError: no connection, or something that the reader cannot do without is not permitted.
        """
        if looks_first:
            await self._look()
        log.warning(
            "scan.reader",
            source=self._source.address,
            changes=self.stats.changes or None,
            means=GUARANTEES,
        )
        await self._socket.start()

    async def _look(self) -> None:
        await self._nodes.open()
        try:
            require_version(self._nodes)
            if await self._choice.uses_passes(self._nodes):
                self.stats.changes = "passes"
            else:
                self.stats.changes = "notifications"
                await self._choice.check_subscription(self._nodes)
        finally:
            self._nodes.close()

    async def close(self) -> None:
        """End everything; a setting that was changed is changed back."""
        await self._socket.close()
        await self._feed.close()
        await self._choice.change_back(self._source, timeout_seconds=self._timeout_seconds)


class _ScanFeed:
    """One attempt after the other, each with a history of its own."""

    def __init__(
        self,
        nodes: SourceNodes,
        choice: ChangeChoice,
        stats: ReaderStats,
        directory: Path | None,
        timeout_seconds: float,
    ) -> None:
        self._nodes = nodes
        self._choice = choice
        self._stats = stats
        self._directory = directory
        self._timeout_seconds = timeout_seconds
        self._attempt: _Attempt | None = None

    @property
    def stream_end(self) -> int:
        attempt = self._attempt
        return 0 if attempt is None else attempt.stream.offset + 16 * self._stats.pending_keys

    @property
    def version(self) -> str:
        return self._nodes.version or "0.0.0"

    @property
    def about(self) -> str:
        attempt = self._attempt
        synced = -1 if attempt is None else attempt.stream.synced_offset
        return f"synced_offset:{synced}\r\nrun_id:{self._nodes.run_id}\r\nmaster_replid:{self._nodes.replid}\r\n"

    def note_applied(self, offset: int) -> None:
        """The source is not told."""

    async def open(self, asked: Position | None) -> str:
        if asked is not None:
            log.info("scan.no_position", means="the source has none: all keys are read again")
        await self.close()
        await self._nodes.open()
        uses_passes = await self._choice.uses_passes(self._nodes)
        self._stats.changes = "passes" if uses_passes else "notifications"
        attempt = _Attempt(
            self._nodes,
            self._stats,
            self._directory,
            timeout_seconds=self._timeout_seconds,
            uses_passes=uses_passes,
        )
        self._attempt = attempt
        await attempt.open()
        return f"FULLRESYNC {secrets.token_hex(20)} 0"

    async def send(self, writer: asyncio.StreamWriter) -> None:
        assert self._attempt is not None
        try:
            await self._attempt.run(writer)
        except EngineError:
            self._stats.gaps += 1
            raise

    async def close(self) -> None:
        """End what is under way."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            await attempt.close()
        self._nodes.close()


class _Attempt:
    """From a first pass over all keys on, until something may have been missed."""

    def __init__(
        self,
        nodes: SourceNodes,
        stats: ReaderStats,
        directory: Path | None,
        *,
        timeout_seconds: float,
        uses_passes: bool,
    ) -> None:
        self._nodes = nodes
        self._stats = stats
        self._timeout_seconds = timeout_seconds
        self._uses_passes = uses_passes
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = tempfile.TemporaryDirectory(
            dir=directory, prefix="scan-", ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)
        self._changed = ChangedKeys(stats, folder)
        self._notifications = Notifications(self._changed, stats)
        self._watch = SourceWatch(
            nodes,
            timeout_seconds=timeout_seconds,
            only_role=uses_passes,
        )
        is_exact = (
            tuple(int(it) for it in nodes.version.split(".")[:2] if it.isdigit()) >= MOMENTS_SINCE
        )
        self._passes = Passes(folder, is_exact=is_exact) if uses_passes else None
        self.stream = ScanStream(nodes, stats, self._changed, self._notifications, self._passes)

    async def open(self) -> None:
        """Hear of changes from now on."""
        endpoints = self._nodes.endpoints
        if not self._uses_passes:
            await self._notifications.open(endpoints, timeout_seconds=self._timeout_seconds)
        await self._watch.open(endpoints)

    async def run(self, writer: asyncio.StreamWriter) -> None:
        """Send all keys, then changes. Ends with an error."""
        streaming = asyncio.create_task(self.stream.run(writer), name="scan")
        watching = asyncio.create_task(self._watch.run(), name="scan-watch")
        ends: set[asyncio.Future[Any]] = {streaming, watching, self._notifications.lost}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._notifications.lost.done():
                raise self._notifications.lost.result()
            for task in (watching, streaming):
                if task.done():
                    task.result()
        finally:
            await end_tasks(streaming, watching)

    async def close(self) -> None:
        """End everything."""
        await self._notifications.close()
        self._watch.close()
        self._changed.close()
        if self._passes is not None:
            self._passes.close()
        self._folder.cleanup()
        self._stats.pending_keys, self._stats.pending_since_seconds = 0, None
