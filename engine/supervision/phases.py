"""Which phase a line is in, and what of it outlives a session at the target."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from engine.checkpoint.checkpoint import Checkpoint
from engine.codec.part_names import part_suffix
from engine.codec.stream import StreamTranscoder
from engine.errors import SpoolDamaged
from engine.position import Position
from engine.replay.big_values import remove_unfinished
from engine.replay.brought import Brought
from engine.replay.flushing import flush_of
from engine.replay.margin import FILE_MARGIN, Margin
from engine.replay.owed import OwedExpiries, OwedFile
from engine.replay.own_margin import OwnMargin, refuse_filled
from engine.replay.refused_keys import RefusedKeys
from engine.replay.resolving import Resolving
from engine.replay.selected_keys import SelectedKeys
from engine.replay.settlement import Settlement
from engine.replay.settling import Settling
from engine.replay.shards import search_of
from engine.replay.snapshot_phase import SnapshotEnd, SnapshotPhase
from engine.replay.stream_phase import StreamEnd, StreamPhase
from engine.replay.stream_plan import stream_plan
from engine.replay.target_session import TargetSession
from engine.replay.target_support import snapshot_plan, value_bridge
from engine.settings import (
    ConflictPolicy,
    Method,
    SourceKind,
    TaskSettings,
    UnsupportedPolicy,
)
from engine.source.handshake import FullResync, Verdict
from engine.source.intake import Intake
from engine.spool.spool import Spool
from engine.stats import LineStats
from engine.supervision.line_events import log_stream_end
from engine.supervision.line_plan import LinePlan
from engine.supervision.states import TaskState

log = structlog.get_logger("engine.line")


class Phases:
    """The snapshot and the stream of one line.

    stop_at: monotonic time when to stop at the latest, None: not yet. is_complete: nothing is left to go on with.
    has_followed_stream: this process has been in the stream phase, so the target has had a checkpoint of it.
    """

    def __init__(
        self,
        settings: TaskSettings,
        plan: LinePlan,
        spool: Spool,
        intake: Intake,
        stats: LineStats,
        brought: Brought,
        keys: SelectedKeys,
    ) -> None:
        self._keys = keys
        self._brought = brought
        self._settings = settings
        self._plan = plan
        self._spool = spool
        self._intake = intake
        self._stats = stats
        self._snapshot_position: Position | None = None
        self._snapshot_generation = 0
        self._snapshot: SnapshotPhase | None = None
        self._snapshot_began_ms = 0
        self._position = Position("", 0)
        self._db = 0
        self._stream: StreamPhase | None = None
        self._filtered_before = 0
        self._refused_keys = RefusedKeys(settings.spool.directory, stats)
        self._part_suffix = part_suffix(settings.task_id, plan.name)
        self._owed_file = OwedFile(settings.spool.directory, plan.name)
        self._owed = self._owed_file.load()
        self._margin_since_ms = 0
        self._margin = FILE_MARGIN if settings.source_kind is SourceKind.FILE else Margin()
        self._can_settle: bool | None = None
        self._settle_refused = ""
        self._target_run_id = ""
        self._goal_offset: int | None = None
        self._acknowledged_offset = -1
        self.stop_at: float | None = None
        self.is_complete = False
        self.has_followed_stream = False

    # ---- what the line asks and tells

    @property
    def has_snapshot_to_apply(self) -> bool:
        """Whether the source has sent, or sends, a snapshot that the target does not have in whole."""
        return self._snapshot_position is not None

    @property
    def is_owing(self) -> bool:
        """Whether the target holds an expiry that is not the source's, and the source can be asked for it."""
        if self._intake.facts.offset < 0:
            return False  # it does not say where an answer belongs
        if self._stream is not None:
            return self._stream.is_owing
        return bool(self._owed) or self._margin_since_ms > 0

    @property
    def is_unsettled(self) -> bool:
        """Whether there is something on the target that only an answer of the source puts right."""
        return self.is_owing or self._stats.keys_in_doubt > 0

    @property
    def has_begun_snapshot(self) -> bool:
        """Whether a snapshot is on its way to the target."""
        return self._snapshot is not None

    def goes_on_with_snapshot(self, session: TargetSession) -> bool:
        """Whether a snapshot was begun and what it has brought so far is still there."""
        return (
            self._snapshot is not None
            and not self._snapshot.is_in_doubt
            and session.had_checkpoint
            and session.capabilities.run_id == self._snapshot.target_run_id
            and self._settings.on_conflict is ConflictPolicy.REPLACE
        )

    def forget_snapshot(self) -> None:
        """The snapshot is of no use: another is to be asked for."""
        self._snapshot = self._snapshot_position = None

    def note_verdict(self, verdict: Verdict) -> None:
        """The source has answered PSYNC."""
        if isinstance(verdict, FullResync):
            self._snapshot_position = verdict.position
            self._snapshot_generation = self._spool.first_generation
            self._snapshot = None
            self._goal_offset = None  # it counted in the history that is over
            self._owed = OwedExpiries()
            self._owed_file.clear()
            self._margin_since_ms = 0

    def resume(self, session: TargetSession, found: Checkpoint, position: Position) -> None:
        """The stream goes on behind `position`, where the spool stands now."""
        self._position = Position(self._spool.replid_at(position.offset), position.offset)
        self._db = found.db
        self._margin_since_ms = found.margin_since_ms
        if found.margin_since_ms and session.capabilities.run_id != self._target_run_id:
            self._owed.scans_keys = self._owed.scans_hashes = True
        self._stats.applied_offset = position.offset
        self._stats.snapshot_is_applied = True

    def wants_acknowledgement(self, offset: int) -> bool:
        """Whether the source waits to hear of `offset`."""
        stream = self._stream
        return (
            stream is not None
            and self._acknowledged_offset < stream.transcoder.getack_offset <= offset
        )

    def is_goal_reached(self) -> bool:
        """Whether the target has all that the task is to bring."""
        if self._waits_for_reader and self._stream is not None and self._intake.synced_offset >= 0:
            self._goal_offset = self._intake.synced_offset
            log.info("stream.goal", offset=self._goal_offset)
        return self._goal_offset is not None and self._stats.applied_offset >= self._goal_offset

    @property
    def _waits_for_reader(self) -> bool:
        """States are sent when they are read: only the reader knows when the last one is among them."""
        is_scan = self._settings.source_kind is SourceKind.SCAN
        return is_scan and self._settings.exit_when_synced and self._goal_offset is None

    def observe(self) -> None:
        """Bring the counters of the phase into the line's."""
        if self._stream is not None:
            self._stats.flushes = self._stream.transcoder.flushes
            self._stats.commands_filtered = self._filtered_before + self._stream.left_out

    # ---- the run

    async def run(self, session: TargetSession, enter: Callable[[TaskState], None]) -> None:
        """Apply what is to be applied until there is nothing more or a stop is asked for."""
        while True:
            if self._snapshot_position is not None:
                end = await self._take_snapshot(session, enter, self._snapshot_position)
                if end is SnapshotEnd.STOPPED:
                    return
                if end is SnapshotEnd.REPLACED:
                    if self._snapshot_generation != self._spool.first_generation:
                        raise SpoolDamaged("the spool has not got the snapshot any more")
                    continue
                if self._settings.method is Method.FULL:
                    await session.remove_checkpoint()
                    self.is_complete = True
                    return
            if await self._follow_stream(session, enter) is StreamEnd.STOPPED:
                is_file = self._settings.source_kind is SourceKind.FILE
                if is_file and self.is_goal_reached() and not self.is_owing:
                    await session.remove_checkpoint()  # a file has an end: nothing can follow
                    self.is_complete = True
                return

    def _is_stopping(self) -> bool:
        return self.stop_at is not None

    def _settlement(self, session: TargetSession) -> Settlement:
        return Settlement(
            self._intake.endpoint,
            self._settings.source_link,
            tells_moments=self._intake.facts.tells_moments,
            removes_missing=not self._intake.facts.is_replica,
            replid=self._source_replid,
            target_rdb_version=session.capabilities.rdb_version,
            values=value_bridge(session.capabilities, self._settings),
            takes_key_metadata=session.capabilities.key_metadata,
            source_of=self._keys.source_of,
            shard=self._plan.source_shard(),
        )

    def _source_replid(self) -> str:
        position = self._spool.position
        return "" if position is None else position.replid

    async def _check_settlement(self, session: TargetSession) -> bool:
        if self._settings.source_kind is not SourceKind.SERVER:
            self._settle_refused = "a file, or a source read by SCAN, cannot be asked"
            return self._margin.is_own
        if self._can_settle is None:
            settlement = self._settlement(session)
            try:
                self._can_settle = await settlement.check()
                self._settle_refused = settlement.refused
            finally:
                await settlement.close()
        return self._can_settle

    async def _take_snapshot(
        self, session: TargetSession, enter: Callable[[TaskState], None], position: Position
    ) -> SnapshotEnd:
        stats, generation = self._stats, self._snapshot_generation
        self._stream = None
        enter(TaskState.SNAPSHOT)
        if self._snapshot is None:
            has_margin = (
                self._settings.method is Method.INCREMENTAL
                and await self._check_settlement(session)
            )
            stats.begin_snapshot(position.offset)
            self._refused_keys.begin()
            if self._settings.source_kind is SourceKind.FILE and self._intake.facts.offset > 0:
                await refuse_filled(session)
            await self._brought.before_snapshot(session)
            if session.had_checkpoint:
                await remove_unfinished(session, self._part_suffix)
            # From the first key on the old checkpoint would be a lie.
            await session.write_checkpoint(session.snapshot_fields(position.replid), anew=True)
            if self._snapshot_generation != generation:
                return SnapshotEnd.REPLACED  # while we waited
            self._snapshot_began_ms = int(time.time() * 1000) + self._intake.facts.clock_offset_ms
            self._snapshot = SnapshotPhase(
                self._spool,
                snapshot_plan(
                    session.capabilities,
                    self._settings,
                    margin_ms=self._margin.ms if has_margin else 0,
                    part_suffix=self._part_suffix,
                    is_cluster=session.is_cluster,
                ),
                stats,
                generation=generation,
                target_run_id=session.capabilities.run_id,
                is_stopping=self._is_stopping,
                recorder=self._brought.recorder,
                refused_keys=self._refused_keys,
                margin=self._margin,
                owners=self._keys.owners,
            )
        phase = self._snapshot
        end = await phase.run(session.delivery)
        if end is not SnapshotEnd.APPLIED:
            return end
        if self._snapshot_generation != generation:
            return SnapshotEnd.REPLACED
        await self._brought.after_snapshot(session, position.offset)
        if self._snapshot_generation != generation:
            return SnapshotEnd.REPLACED  # while we waited
        if stats.not_carried:
            log.warning("snapshot.not_carried", what=stats.not_carried)
        transcoder = phase.transcoder
        self._owed = OwedExpiries(
            wholes=set(transcoder.late_hashes),
            is_exact=transcoder.margined == 0,
            scans_keys=transcoder.margined > 0,
            scans_hashes=transcoder.late_hashes_lost > 0,
        )
        self._margin_since_ms = self._snapshot_began_ms if transcoder.margined else 0
        stats.snapshot_is_applied = True
        log.info("snapshot.applied", keys=stats.keys_applied, bytes=stats.bytes_applied)
        self._position, self._db = position, 0
        self._snapshot = self._snapshot_position = None
        return end

    async def _follow_stream(
        self, session: TargetSession, enter: Callable[[TaskState], None]
    ) -> StreamEnd:
        enter(TaskState.STREAM)
        wants_goal = self._settings.exit_when_synced and self._goal_offset is None
        if wants_goal and not self._waits_for_reader:
            self._goal_offset = max(await self._intake.ask_offset(), self._spool.end_offset)
            log.info("stream.goal", offset=self._goal_offset)
        self._brought.require_owners()
        fields = session.stream_fields(
            self._position, self._db, margin_since_ms=self._margin_since_ms
        )
        await session.write_checkpoint(fields)
        # Behind the checkpoint: who is killed meanwhile must not take the snapshot again.
        await self._brought.sort_names()
        self.has_followed_stream = True
        self._target_run_id = session.capabilities.run_id
        has_margin = await self._check_settlement(session)
        if self._snapshot_position is not None:
            return StreamEnd.REPLACED  # while we waited
        self._filtered_before = self._stats.commands_filtered
        stream = self._stream = StreamPhase(
            self._spool,
            session,
            stream_plan(
                session,
                self._settings,
                position=self._position,
                db=self._db,
                margin_since_ms=self._margin_since_ms,
                clock_offset_ms=self._intake.facts.clock_offset_ms,
                source_version=self._intake.facts.version,
            ),
            is_done=self._is_done,
            is_late=lambda: self._intake.is_late,
            margin=self._margin if has_margin else None,
            settling=lambda transcoder: self._settling(session, transcoder),
            recorder=self._brought.recorder,
            refused_keys=self._refused_keys,
            flush=flush_of(session, self._plan.slots, self._keys, self._brought),
            resolving=lambda transcoder, settling: self._resolving(session, transcoder, settling),
            selector=self._keys.selector(self._position.offset, self._db),
        )
        try:
            end = await stream.run()
        finally:
            self._margin_since_ms = stream.transcoder.margin_since_ms
            self.observe()
            log_stream_end(session, stream, self._stats)
        return end

    def _settling(self, session: TargetSession, transcoder: StreamTranscoder) -> Settling:
        return Settling(
            transcoder,
            OwnMargin(session, self._margin, lambda: transcoder.offset)
            if self._margin.is_own
            else self._settlement(session),
            self._owed,
            self._owed_file,
            search=search_of(session, self._settings.target_link),
            brought=self._brought,
            stats=self._stats,
            margin=self._margin,
            wake=self._spool.wake,
        )

    def _resolving(
        self, session: TargetSession, transcoder: StreamTranscoder, settling: Settling
    ) -> Resolving | None:
        if session.in_doubt is None:
            return None
        session.in_doubt.refused = self._settle_refused
        return Resolving(
            session.in_doubt,
            transcoder,
            self._settlement(session),
            settling,
            refused_keys=self._refused_keys,
            stats=self._stats,
            skips_refused=self._settings.on_unsupported is UnsupportedPolicy.SKIP,
            is_replica=self._intake.facts.is_replica,
            wake=self._spool.wake,
        )

    def _is_done(self) -> bool:
        if self.stop_at is not None:
            return not self.is_unsettled or time.monotonic() >= self.stop_at
        return self.is_goal_reached() and not self.is_unsettled
