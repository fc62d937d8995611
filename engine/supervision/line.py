"""One line: source shard ─▶ spool ─▶ transcoders ─▶ limiter ─▶ target. Read this file first.

A line runs once: it connects, takes the snapshot if it must, then the stream until it is told to stop. What
happens after an error is the task's decision; a new line continues from the checkpoint that the old one left
in the target.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from engine.checkpoint.checkpoint import checkpoint_key, snapshot_fields, stream_fields
from engine.checkpoint.store import read_checkpoint
from engine.codec.command_text import encode
from engine.codec.plan import SnapshotPlan, StreamPlan
from engine.control_client import raise_if_cancelled
from engine.errors import EngineError, InternalError, SourceLinkLost, SourceRefused
from engine.position import Position
from engine.replay.delivery import Delivery
from engine.replay.late_expiry import LateExpiry
from engine.replay.snapshot_phase import apply_snapshot
from engine.replay.stream_phase import StreamPhase
from engine.replay.token_bucket import TokenBucket
from engine.settings import ConflictPolicy, Method, TaskSettings
from engine.source.facts import SourceWatch
from engine.source.handshake import FullResync
from engine.source.replica_link import ReplicaLink
from engine.stats import LineStats
from engine.supervision.background import Background
from engine.supervision.states import TaskState
from engine.target.capabilities import Capabilities, probe_target
from engine.target.replies import ReplyPolicy

log = structlog.get_logger("engine.line")

BEAT_SECONDS = 1.0
CORRECTION_SECONDS = 5.0  # half of what a graceful stop may take


class Line:
    """Runs one line of a task once. `stats` and `limiter` belong to the task and outlive the line.

    on_phase: called as the line enters the snapshot and the stream phase.
    """

    def __init__(
        self,
        settings: TaskSettings,
        *,
        stats: LineStats,
        limiter: TokenBucket,
        on_phase: Callable[[TaskState], None],
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._on_phase = on_phase
        self._key = checkpoint_key(settings.task_id, "0")
        self._delivery = Delivery(
            limiter=limiter,
            stats=stats,
            on_applied=self._on_applied,
            on_failed=self._on_target_failed,
        )
        self._link: ReplicaLink | None = None
        self._stream: StreamPhase | None = None
        self._background = Background(self._on_background_failed)
        self._epoch = 0
        self._source_clock_ms = 0
        self._is_stopping = False
        self._stop_deadline = 0.0
        self._goal_offset: int | None = None
        self._tells_offset = False
        self._acknowledged_offset = -1
        self.is_resumed = False

    # ---- what the task may ask at any time

    def stop(self) -> None:
        """Finish what is in flight, keep the checkpoint, then `run` returns.

        What waits in the spool is dropped: the source still has it. Only expiries that are still to be put
        right get a moment more (see late_expiry.py).
        """
        self._is_stopping = True
        if self._owes_corrections:
            self._stop_deadline = time.monotonic() + CORRECTION_SECONDS
        elif self._link is not None:
            self._link.stop_reading()
            self._link.spool.discard()

    @property
    def wrote_to_target(self) -> bool:
        """Whether anything was sent that changes the target."""
        return self._delivery.has_written

    @property
    def spool_bytes(self) -> int:
        """Bytes received and not yet transcoded."""
        return 0 if self._link is None else self._link.spool.held_bytes

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest bytes received that the target has not confirmed; 0.0 when there are none."""
        oldest = self._delivery.oldest_received_seconds
        if oldest is None and self._link is not None:
            oldest = self._link.spool.oldest_received_seconds
        return 0.0 if oldest is None else max(0.0, time.monotonic() - oldest)

    def observe(self) -> None:
        """Bring the counters that others keep into `stats`."""
        link, stats = self._link, self._stats
        if link is not None:
            stats.read_offset = link.read_offset
            if link.framing is not None:
                stats.snapshot_bytes_total = link.framing.total_bytes
            stats.source_offset = max(stats.source_offset, link.read_offset)
        stats.keys_skipped = self._delivery.keys_skipped
        if self._stream is not None:
            stats.flushes = self._stream.flushes

    # ---- the run

    async def run(self) -> None:
        """Migrate until done or stopped.

        Raises:
            EngineError: whatever ended the line; both connections are closed.
        """
        settings = self._settings
        try:
            async with SourceWatch(
                settings.source, timeout_seconds=settings.source_link.connect_timeout_seconds
            ) as watch:
                await self._run_with(watch)
        finally:
            self.observe()
            self._delivery.close()
            if self._link is not None:
                self._link.close()

    async def _run_with(self, watch: SourceWatch) -> None:
        try:
            start = await self._connect_and_take_position(watch)
            if start is not None and not self._is_stopping:
                await self._follow_stream(watch, *start)
        finally:
            await self._background.end()

    async def _connect_and_take_position(self, watch: SourceWatch) -> tuple[Position, int] | None:
        """Connect both sides; return where the stream starts and its database.

        None if there is no stream to follow.
        """
        settings = self._settings
        facts = await watch.ask_first()
        if facts.is_cluster:
            raise SourceRefused(
                f"the source {settings.source.address} is a cluster node, and this version migrates standalone servers",
                hint="one node holds only its own slots; cluster sources need a later version",
            )
        self._tells_offset = facts.offset >= 0
        capabilities = await probe_target(settings.target, settings.target_link)
        prefix = f"redis-ferry:{settings.task_id}:0:"
        checkpoint = await read_checkpoint(
            settings.target,
            settings.target_link,
            self._key,
            known_epoch=self._stats.epoch,
            connection_prefix=prefix,
        )
        raise_if_cancelled()
        self._capabilities = capabilities
        self._epoch = 1 if checkpoint is None else checkpoint.epoch + 1
        resume_from = None
        if checkpoint is not None and settings.method is Method.INCREMENTAL:
            resume_from = checkpoint.position
        await self._delivery.open(
            settings.target,
            settings.target_link,
            client_name=f"{prefix}{self._epoch}",
            policy=ReplyPolicy(skip_existing=settings.on_conflict is ConflictPolicy.SKIP),
        )
        self._link, verdict = await ReplicaLink.open(
            settings.source,
            settings.source_link,
            memory_bytes=settings.spool.memory_bytes,
            resume_from=resume_from,
        )
        log.info(
            "line.connected",
            source=settings.source.address,
            source_version=facts.version or "unknown",
            target=settings.target.address,
            target_version=".".join(map(str, capabilities.version)),
            target_server=capabilities.server,
            target_rdb_version=capabilities.rdb_version,
            source_clock_ms=facts.clock_offset_ms,
            target_clock_ms=capabilities.clock_offset_ms,
        )
        self._source_clock_ms = facts.clock_offset_ms
        if self._is_stopping:
            return None
        self._background.start(self._beat(self._link), name="beat")
        self._background.start(self._watch_source(watch, self._link), name="watch-source")
        if isinstance(verdict, FullResync):
            self._log_full_resync(verdict.position, resume_from)
            self._stats.full_resyncs += 1
            return await self._take_snapshot(verdict.position, capabilities)
        assert resume_from is not None
        assert checkpoint is not None
        log.info("psync.partial_resync", asked=str(resume_from), replid=verdict.replid)
        self._stats.partial_resyncs += 1
        self._stats.snapshot_is_applied = True
        self._stats.applied_offset = resume_from.offset
        self.is_resumed = True
        self._link.start_stream_at(resume_from.offset)
        self._stats.epoch = self._epoch
        await self._write_checkpoint(stream_fields(resume_from, checkpoint.db, self._epoch))
        return Position(verdict.replid, resume_from.offset), checkpoint.db

    def _log_full_resync(self, position: Position, resume_from: Position | None) -> None:
        if resume_from is None:
            log.info("psync.full_resync", position=str(position))
            return
        log.warning(
            "psync.full_resync",
            asked=str(resume_from),
            source_has=str(position),
            why="the source no longer has the history behind the checkpoint",
            remains="keys deleted on the source since then stay on the target",
        )

    async def _take_snapshot(
        self, position: Position, capabilities: Capabilities
    ) -> tuple[Position, int] | None:
        assert self._link is not None
        settings, stats = self._settings, self._stats
        self._on_phase(TaskState.SNAPSHOT)
        stats.applied_offset = position.offset
        stats.source_offset = position.offset  # maybe another history: the old offset says nothing
        stats.keys_applied = 0
        stats.owed_expiries = set()
        stats.snapshot_is_applied = False
        # From the first key on the old checkpoint would be a lie.
        self._stats.epoch = self._epoch
        await self._write_checkpoint(snapshot_fields(position.replid, self._epoch))
        plan = SnapshotPlan(
            target_rdb_version=capabilities.rdb_version,
            redis_types=capabilities.redis_types,
            valkey_types=capabilities.valkey_types,
            on_conflict=settings.on_conflict,
            strings_as_set=capabilities.absolute_set,
            functions=capabilities.functions,
            key_metadata=capabilities.key_metadata,
            block_bytes=settings.target_link.block_bytes,
        )
        if not await apply_snapshot(self._link.spool, self._delivery, plan, stats):
            return None
        if stats.not_carried:
            log.warning("snapshot.not_carried", what=stats.not_carried)
        stats.snapshot_is_applied = True
        log.info("snapshot.applied", keys=stats.keys_applied, bytes=stats.bytes_applied)
        if settings.method is Method.FULL:
            await self._delivery.send_own(encode("DEL", self._key))
            return None
        await self._write_checkpoint(stream_fields(position, 0, self._epoch))
        return position, 0

    async def _follow_stream(self, watch: SourceWatch, position: Position, db: int) -> None:
        link = self._link
        assert link is not None
        self._on_phase(TaskState.STREAM)
        if self._settings.exit_when_synced:
            self._goal_offset = max(await watch.ask_offset(), link.read_offset)
            log.info("stream.goal", offset=self._goal_offset)
        plan = StreamPlan(
            checkpoint_key=self._key,
            replid=position.replid,
            offset=position.offset,
            db=db,
            epoch=self._epoch,
            absolute_expiry=self._capabilities.absolute_set,
            clock_offset_ms=self._source_clock_ms,
            block_bytes=self._settings.target_link.block_bytes,
        )
        late_expiry = LateExpiry(self._settings.source, self._settings.source_link)
        stream = StreamPhase(
            link.spool,
            self._delivery,
            plan,
            is_done=self._is_done,
            late_expiry=late_expiry,
            is_late=lambda: link.is_late,
            owed_expiries=self._stats.owed_expiries,
        )
        self._stream = stream
        try:
            await stream.run()
        finally:
            self._stats.owed_expiries = stream.owed_expiries
            await late_expiry.close()
        applied = Position(position.replid, self._stats.applied_offset)
        if stream.is_at_boundary:
            await self._write_checkpoint(stream_fields(applied, stream.db, self._epoch))
        self._acknowledge()
        if self._delivery.link.scripts_failed:
            log.warning(
                "stream.scripts_failed",
                count=self._delivery.link.scripts_failed,
                why="they failed at the source as well: sources before 5.0 replicate such scripts",
            )
        if stream.flushes:
            log.warning("stream.flushes_applied", count=stream.flushes)
        log.info("stream.stopped", position=str(applied), db=stream.db)

    async def _write_checkpoint(self, fields: dict[str, str]) -> None:
        flat = [text for pair in fields.items() for text in pair]
        await self._delivery.send_own(encode("HSET", self._key, *flat))

    @property
    def _owes_corrections(self) -> bool:
        # Lateness ends with an answer to INFO; without permission for it there is none to wait for.
        return self._stream is not None and self._tells_offset and self._stream.owes_corrections

    def _is_done(self) -> bool:
        if self._is_stopping:
            return not self._owes_corrections or time.monotonic() >= self._stop_deadline
        if self._goal_offset is None or self._stats.applied_offset < self._goal_offset:
            return False
        return not self._owes_corrections

    def _on_applied(self, offset: int) -> None:
        """A source that asked for an acknowledgement (WAIT) gets it as soon as it is true."""
        if (
            self._stream is not None
            and self._acknowledged_offset < self._stream.getack_offset <= offset
        ):
            self._acknowledge()
        if self._link is not None and self._goal_offset is not None and offset >= self._goal_offset:
            self._link.spool.wake()

    def _on_target_failed(self, error: EngineError) -> None:
        """The replay may be waiting for the source: it must hear of it now, not with the next bytes."""
        if self._link is not None:
            self._link.spool.end(error)

    def _on_background_failed(self, error: BaseException) -> None:
        log.error("line.background_failed", error=repr(error))
        if self._link is not None:
            self._link.fail(InternalError(f"a task beside the line failed: {error!r}"))

    def _acknowledge(self) -> None:
        if self._link is not None and self._link.acknowledges:
            self._link.acknowledge(self._stats.applied_offset)
            self._acknowledged_offset = self._stats.applied_offset

    async def _beat(self, link: ReplicaLink) -> None:
        """Once a second: acknowledge or keep alive, look for silence, sample the rates."""
        limit = self._settings.source_link.silence_timeout_seconds
        while True:
            self._stats.bytes_rate.sample(self._stats.bytes_applied)
            self._stats.keys_rate.sample(self._stats.keys_applied)
            if link.framing is not None and not link.framing.is_complete:
                link.keep_alive()
            else:
                self._acknowledge()
            self._delivery.check_silence()
            if link.is_reading and link.seconds_silent > limit:
                link.fail(
                    SourceLinkLost(f"the source sent nothing for {link.seconds_silent:.0f} s")
                )
            await asyncio.sleep(BEAT_SECONDS)

    async def _watch_source(self, watch: SourceWatch, link: ReplicaLink) -> None:
        """Once a second: ask the source how far it is, the lag that bytes in our hands cannot show."""
        while True:
            offset = await watch.ask_offset()
            self._tells_offset = offset >= 0
            self._stats.source_offset = max(self._stats.source_offset, offset)
            if link.framing is None or link.framing.is_complete:
                link.note_source_offset(offset)
                link.spool.wake()  # corrections may be possible now
            await asyncio.sleep(BEAT_SECONDS)
