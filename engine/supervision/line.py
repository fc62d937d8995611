"""One line: source shard ─▶ spool ─▶ transcoders ─▶ limiter ─▶ target. Read this file first.

Two loops share the spool. The intake (engine/source/intake.py) keeps the link to the source up and fills it. Here the
line stays at the target, one session after the other: it takes the line over, reads the checkpoint, goes back in the
spool to what the target really has, and goes on from there with the snapshot or the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable
from functools import partial

import structlog

from engine.background import end_tasks
from engine.checkpoint.checkpoint import Checkpoint
from engine.control_client import raise_if_cancelled
from engine.errors import (
    CorruptRdb,
    EngineError,
    LedgerError,
    SourceRefused,
    StreamOutOfStep,
    TargetRefused,
    UnsupportedByTarget,
)
from engine.replay.brought import Brought
from engine.replay.delivery import DeliveryEvents
from engine.replay.target_session import TargetSession
from engine.replay.target_side import TargetSide
from engine.replay.token_bucket import TokenBucket
from engine.settings import Method, TaskSettings
from engine.source.handshake import Verdict
from engine.source.intake import Intake, IntakeEvents
from engine.source.snapshot_turns import SnapshotTurns
from engine.spool.spool import Spool
from engine.stats import LineStats
from engine.supervision.line_events import log_connected, warn_of_lost_position
from engine.supervision.line_plan import LinePlan
from engine.supervision.phases import Phases
from engine.supervision.reading import LineReading, lag_of, read_line
from engine.supervision.recovery import DAMAGED, Decision, delay_seconds
from engine.supervision.same_server import refuse_same_server
from engine.supervision.states import TaskState
from engine.supervision.troubles import Side, Troubles, side_of

log = structlog.get_logger("engine.line")

BEAT_SECONDS = 1.0
CORRECTION_SECONDS = 5.0  # half of what a graceful stop may take


class Line:
    """Runs one line of a task.

    on_state: called with each state, and with what keeps the line from running (None: nothing).
    """

    def __init__(
        self,
        settings: TaskSettings,
        *,
        plan: LinePlan,
        turns: SnapshotTurns,
        stats: LineStats,
        limiter: TokenBucket,
        on_state: Callable[[TaskState, str | None], None],
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._stats = stats
        self._limiter = limiter
        self._on_state = on_state
        self._target = TargetSide(settings, plan.name)
        run_name = f"{os.getpid()}-{time.time_ns()}"
        self._spool = Spool.recover(settings.spool, line=plan.name, run_name=run_name)
        self._intake = Intake(
            plan.place,
            settings.source_link,
            self._spool,
            stats,
            IntakeEvents(
                on_lost=self._on_source_lost,
                on_verdict=self._on_verdict,
                on_connected=self._on_source_connected,
                on_given_up=self._spool.end,
            ),
            turns,
        )
        keys = plan.keys(settings)
        self._brought = Brought.open(plan.name, settings, stats, keys)
        self._phases = Phases(settings, plan, self._spool, self._intake, stats, self._brought, keys)
        self._troubles = Troubles()
        self._state = TaskState.CONNECTING
        self._session: TargetSession | None = None
        self._rng = random.Random()  # noqa: S311 - jitter
        # An address that answered in an earlier run is no mistyped one: its server is away.
        self._has_run = not self._brought.is_empty or self._spool.recovered_bytes > 0
        self._out_of_step_at = -1
        self._wrote = False
        self._stop = asyncio.Event()
        self.is_resumed = False

    # ---- what the task may ask at any time

    def stop(self) -> None:
        """Finish what is in flight, keep the checkpoint, then `run` returns.

        Only what the source is still to be asked for gets a moment more (replay/settling.py, resolving.py).
        """
        self._stop.set()
        if self._phases.is_unsettled and self._intake.tells_offset and not self._troubles:
            self._phases.stop_at = time.monotonic() + CORRECTION_SECONDS
        else:
            self._phases.stop_at = time.monotonic()
            self._intake.stop_reading()
        self._spool.wake()

    @property
    def wrote_to_target(self) -> bool:
        """Whether anything was sent that changes the target."""
        return self._wrote or (self._session is not None and self._session.delivery.has_written)

    @property
    def unfinished(self) -> str | None:
        """What kept the target from all that was read when the line was stopped; None: nothing did."""
        return self._troubles.text_of(Side.TARGET) if self._stop.is_set() else None

    @property
    def is_owing(self) -> bool:
        """Whether an expiry on the target is not yet that of the source."""
        return self._phases.is_owing

    @property
    def spool_bytes(self) -> int:
        """Bytes received and not yet replayed."""
        return self._spool.held_bytes

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest bytes received that the target has not confirmed; 0.0 when there are none."""
        return lag_of(self._session, self._spool)

    def reading(self) -> LineReading:
        """Its counters and figures of this moment, for metrics."""
        self.observe()
        ends = {Side.SOURCE: self._intake.link, Side.TARGET: self._session}
        up = [it for it, end in ends.items() if end is not None and not self._troubles.has(it)]
        return read_line(
            self._plan.name, self._stats, self._spool, up, self.lag_seconds, self.is_owing
        )

    @property
    def trouble(self) -> str | None:
        """What keeps the line from running; None if nothing does."""
        waiting = None if self._session is None else self._session.trouble
        return self._troubles.text or waiting or self._spool.blocked

    def observe(self) -> None:
        """Bring the counters that others keep into `stats`."""
        stats, link, spool = self._stats, self._intake.link, self._spool
        if link is not None:
            stats.read_offset = link.read_offset
            if link.framing is not None:
                stats.snapshot_bytes_total = link.framing.total_bytes
            stats.source_offset = max(stats.source_offset, link.read_offset)
        stats.spool_disk_bytes = spool.disk_bytes
        stats.spool_recovered_bytes = spool.recovered_bytes
        stats.spool_spilled_bytes = spool.spilled_bytes
        self._phases.observe()

    # ---- the run

    async def run(self) -> None:
        """Migrate until done or stopped.

        Raises:
            EngineError: whatever ended the line; all connections are closed, the spool keeps what it holds.
        """
        structlog.contextvars.bind_contextvars(line=self._plan.name)
        try:
            await self._run()
        finally:
            self.observe()
            await self._intake.close()
            await self._spool.close()
            self._close_ledger()

    async def _run(self) -> None:
        while not self._stop.is_set():
            self._show(TaskState.CONNECTING)
            try:
                await self._stay()
                break
            except EngineError as error:
                raise_if_cancelled()
                self._stats.count_error(error)
                if self._stop.is_set():
                    log.warning("line.failed_while_stopping", error=str(error))
                    self._troubles.add(side_of(error), error)
                    break
                seconds = self._note_trouble(error)
                if seconds is None:
                    # Refused: maybe another process goes on with these files.
                    if not isinstance(error, TargetRefused):
                        await self._end_spool()
                    raise
                self._state = TaskState.CONNECTING
                if isinstance(error, DAMAGED):
                    await self._intake.disconnect()
                    self._spool.discard()
                if isinstance(error, CorruptRdb):
                    self._phases.forget_snapshot()
                await self._wait(seconds)
        await self._end_spool()

    def _close_ledger(self) -> None:
        try:
            self._brought.close(is_complete=self._phases.is_complete)
        except LedgerError as error:
            log.warning("ledger.not_closed", error=str(error))

    async def _end_spool(self) -> None:
        if self._phases.is_complete:
            self._spool.delete()
        else:
            await self._spool.persist()

    async def _stay(self) -> None:
        """One session at the target, from taking the line over to its end."""
        settings = self._settings
        if not self._intake.is_started:
            # First whether the target is one at all: nothing is asked of the source in vain.
            found = await self._target.peek()
            self._has_run = self._has_run or (found is not None and found.position is not None)
            self._plan.check_shard("" if found is None else found.source_shard)
            await self._start_intake(found)
        session = await self._target.open_session(
            source_shard=self._plan.noted_shard(),
            known_epoch=self._stats.epoch,
            ledger_id=self._brought.ledger_id,
            accept=partial(refuse_same_server, self._intake.facts, settings.target),
            limiter=self._limiter,
            stats=self._stats,
            events=DeliveryEvents(
                on_applied=self._on_applied,
                on_failed=self._on_target_failed,
            ),
        )
        self._session = session
        self._stats.epoch = session.epoch
        beating = asyncio.create_task(self._beat(session), name="beat")
        try:
            if self._troubles.clear(Side.TARGET):
                self._stats.reconnects += 1
                self._stats.target_reconnects += 1
            log_connected(settings, self._plan.name, self._intake, session)
            if self._stop.is_set():
                return
            if not self._phases.goes_on_with_snapshot(session):
                self._brought.take_over(session)
            await self._take_position(session)
            try:
                await self._phases.run(session, self._enter)
            except UnsupportedByTarget:
                if not self.wrote_to_target and not session.had_checkpoint:
                    await session.remove_checkpoint()  # nothing else of ours is there
                raise
            self._intake.acknowledge()
        finally:
            await end_tasks(beating)
            self._wrote = self._wrote or session.delivery.has_written
            session.close()

    async def _start_intake(self, found: Checkpoint | None) -> None:
        """Connect to the source: from where the spool of an earlier run ends, from the checkpoint, or anew."""
        position = None
        if found is not None and self._settings.method is Method.INCREMENTAL and not found.has_hole:
            position = found.position
        if position is not None and self._spool.covers(position):
            log.info(
                "spool.continues",
                checkpoint=str(position),
                spool_ends=str(self._spool.position),
                bytes=self._spool.end_offset - position.offset,
            )
            position = self._spool.position
        await self._intake.start(position)
        if self._settings.exit_when_synced and self._intake.facts.is_silent:
            raise SourceRefused(
                "the source does not say how far it is, so there is no telling when the target has caught up",
                hint="grant it: ACL SETUSER <user> +info, or leave out --exit-when-synced",
            )

    async def _take_position(self, session: TargetSession) -> None:
        """Bring the spool to what the target has; where it can't, ask the source again."""
        phases = self._phases
        if phases.has_snapshot_to_apply:
            if phases.has_begun_snapshot and not phases.goes_on_with_snapshot(session):
                # What it has brought may be gone with the target's process.
                await self._intake.start(None)
            return
        found = session.checkpoint
        position = None if found is None or found.has_hole else found.position
        if position is None or found is None:
            warn_of_lost_position(session)
            await self._intake.start(None)
            return
        if self._spool.covers(position):
            skipped = position.offset - self._spool.start_offset
        if self._spool.covers(position) and self._spool.rewind(position.offset):
            self._stats.checkpoint_skipped_bytes += max(skipped, 0)
        else:
            await self._intake.start(position)
        if not phases.has_snapshot_to_apply:
            self.is_resumed = self.is_resumed or not phases.has_followed_stream
            phases.resume(session, found, position)

    # ---- states and troubles

    def _show(self, state: TaskState) -> None:
        self._state = state
        self._on_state(TaskState.RECOVERING if self._troubles else state, self._troubles.text)

    def _enter(self, state: TaskState) -> None:
        if state is TaskState.STREAM:
            self._troubles.corrupt_snapshots = 0
        self._has_run = True
        self._troubles.forget_attempts(Side.TARGET)
        if self._intake.link is not None:
            self._troubles.clear(Side.SOURCE)  # a question that was not answered, and now is
        self._show(state)

    def _note_trouble(self, error: EngineError) -> float | None:
        """Seconds until the next try; None if there is to be none."""
        if self._troubles.decide(error, self._settings.resume_mode, self._has_run) is Decision.STOP:
            return None
        if isinstance(error, StreamOutOfStep):
            if error.offset == self._out_of_step_at:
                return None  # received anew, and the same again
            self._out_of_step_at = error.offset
        side = side_of(error)
        is_source_shard = self._plan.slots is not None
        seconds = delay_seconds(
            self._troubles.add(side, error),
            self._rng,
            is_cluster=is_source_shard if side is Side.SOURCE else self._target.is_cluster,
        )
        self._stats.retries[type(error).__name__] += 1
        log.warning(f"{side}.retry", error=str(error), after_seconds=round(seconds, 2))
        self._on_state(TaskState.RECOVERING, self._troubles.text)
        return seconds

    def _on_source_lost(self, error: EngineError) -> float | None:
        self._stats.count_error(error)
        return self._note_trouble(error)

    def _on_verdict(self, verdict: Verdict) -> None:
        self._phases.note_verdict(verdict)

    def _on_source_connected(self) -> None:
        if self._troubles.clear(Side.SOURCE):
            self._stats.reconnects += 1
            self._stats.source_reconnects += 1
        self._troubles.forget_attempts(Side.SOURCE)
        if self._session is not None:
            self._show(self._state)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    # ---- what the sides report

    def _on_applied(self, offset: int) -> None:
        self._spool.release(offset)
        self._brought.note_applied(offset)
        if self._phases.wants_acknowledgement(offset):
            # A source that asked for one (WAIT) gets it as soon as it is true.
            self._intake.acknowledge()
        if self._phases.is_goal_reached():
            self._spool.wake()

    def _on_target_failed(self, error: EngineError) -> None:
        """The replay may be waiting for the source: it must look at the target now."""
        del error  # the replay meets it there
        self._spool.wake()

    async def _beat(self, session: TargetSession) -> None:
        """Once a second: sample the rates, look for a target that does not answer."""
        while True:
            self._stats.bytes_rate.sample(self._stats.bytes_applied)
            self._stats.keys_rate.sample(self._stats.keys_applied)
            session.delivery.check_silence()
            await asyncio.sleep(BEAT_SECONDS)
