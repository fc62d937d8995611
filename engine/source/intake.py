"""Keeps the link to one source shard up: connects, watches it, connects again, for as long as the line lives.

What has been received is in the spool, so a new link goes on where the spool ends, and the replay does not notice.
It notices only when the source has not got that place any more: then a snapshot comes through the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from engine.background import end_tasks
from engine.cluster.places import Place
from engine.endpoint import Endpoint
from engine.errors import (
    EngineError,
    InternalError,
    SourceLinkLost,
    SourceNotReady,
    SourceRefused,
)
from engine.position import Position
from engine.settings import SourceSettings
from engine.source.facts import SourceFacts, SourceWatch
from engine.source.handshake import FullResync, Verdict
from engine.source.replica_link import ReplicaLink
from engine.source.snapshot_turns import SnapshotTurns, Turn
from engine.spool.spool import Spool
from engine.stats import LineStats

log = structlog.get_logger("engine.source")

BEAT_SECONDS = 1.0
# A diskless source starts the stream with the first acknowledgement that comes when its child has ended (replication.c,
# repl_put_online_on_ack), and until then keeps what is written: so there is one more often until something comes.
IMPATIENT_BEAT_SECONDS = 0.05
LATE_BEAT_SECONDS = 0.1
DEFAULT_SILENCE_SECONDS = 60.0  # repl-timeout's default (config.c)


@dataclass(slots=True)
class IntakeEvents:
    """What the intake tells its line, in the event loop.

    on_lost(error): the link is gone; return how long to wait before the next try, or None to give up. It is asked
    again for each try that fails. on_verdict(verdict): the source goes on, or sends a snapshot; the spool is ready for it.
    on_connected(): a link is up. on_given_up(error): it will not be tried again.
    """

    on_lost: Callable[[EngineError], float | None]
    on_verdict: Callable[[Verdict], None]
    on_connected: Callable[[], None]
    on_given_up: Callable[[EngineError], None]
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Intake:
    """One source shard's link, whichever connection carries it now.

    facts: what the source said of itself when it was last connected. tells_offset: whether it answers how far it is.
    """

    def __init__(
        self,
        place: Place,
        settings: SourceSettings,
        spool: Spool,
        stats: LineStats,
        events: IntakeEvents,
        turns: SnapshotTurns,
    ) -> None:
        self._place = place
        self._turns = turns
        self._turn: Turn | None = None
        self._settings = settings
        self._spool = spool
        self._stats = stats
        self._events = events
        self._watch = self._watch_of(place.endpoint)
        self._keeper: asyncio.Task[None] | None = None
        self._silence_seconds = settings.silence_timeout_seconds or DEFAULT_SILENCE_SECONDS
        self.link: ReplicaLink | None = None
        self.facts = SourceFacts("", -1, is_cluster=False)
        self.tells_offset = False
        self.asked: Position | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The server that the newest link goes to."""
        return self._place.endpoint

    def _watch_of(self, endpoint: Endpoint) -> SourceWatch:
        return SourceWatch(endpoint, timeout_seconds=self._settings.connect_timeout_seconds)

    @property
    def synced_offset(self) -> int:
        """Where a reader of states has caught up with the source (see SourceWatch); -1: not yet."""
        return self._watch.synced_offset

    @property
    def is_started(self) -> bool:
        """Whether a link is kept up."""
        return self._keeper is not None

    @property
    def is_late(self) -> bool:
        """Whether what comes now may have waited at the source; also while nothing can come."""
        return self.link is None or self.link.is_late

    async def start(self, resume_from: Position | None) -> Verdict:
        """Connect (again), from another position if there was a link, and keep it up from now on.

        Raises:
            EngineError: this first try failed; nothing goes on in the background.
        """
        await self._end_keeper()
        verdict = await self._connect(resume_from)
        assert self.link is not None
        self._keeper = asyncio.create_task(self._keep(self.link), name="intake")
        self._keeper.add_done_callback(self._note_end)
        return verdict

    async def ask_offset(self) -> int:
        """The newest byte of the source's stream now, -1 if it does not say."""
        return await self._watch.ask_offset()

    async def disconnect(self) -> None:
        """Drop the link; `start` makes another."""
        await self._end_keeper()

    def stop_reading(self) -> None:
        """Take no more from the source; the link stays for the last acknowledgement."""
        self._events.stop.set()
        if self.link is not None:
            self.link.stop_reading()

    def acknowledge(self) -> None:
        """Tell the source what the target has."""
        if self.link is not None and self.link.acknowledges:
            self.link.acknowledge(self._stats.applied_offset)

    async def close(self) -> None:
        """End everything."""
        await self._end_keeper()
        await self._watch.close()

    async def _end_keeper(self) -> None:
        keeper, self._keeper = self._keeper, None
        await end_tasks(keeper)
        self._drop_link()

    def _note_end(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            log.error("source.intake_failed", error=repr(error))
            self._events.on_given_up(InternalError(f"the intake failed: {error!r}"))

    def _drop_link(self) -> None:
        self._end_turn()
        if self.link is not None:
            self.link.close()
            self.link = None

    async def _connect(self, resume_from: Position | None) -> Verdict:
        if not self._settings.keeps_position:
            resume_from = None
        self._watch.synced_offset = -1
        before = self._place.endpoint
        endpoint = await self._place.locate()
        if endpoint != before:
            await self._watch.close()
            self._watch = self._watch_of(endpoint)
        self.facts = await self._watch.ask_first()
        if self.facts.is_cluster and not self._place.is_cluster_shard:
            raise SourceRefused(
                f"the source {endpoint.address} has become a cluster node",
                hint="start it again: every shard gets a line of its own",
            )
        if self._expects_snapshot(resume_from):
            self._turn = await self._turns.take(endpoint.host)
            if self._events.stop.is_set():
                self._end_turn()
                raise SourceNotReady("stopped before the snapshot began")
        if self._settings.silence_timeout_seconds is None and self.facts.repl_timeout_seconds:
            self._silence_seconds = float(self.facts.repl_timeout_seconds)
        self.tells_offset = self.facts.offset >= 0
        self.asked = resume_from
        try:
            self.link, verdict = await ReplicaLink.open(
                endpoint,
                self._settings,
                self._spool,
                resume_from=resume_from,
                on_verdict=self._events.on_verdict,
            )
        except BaseException:
            self._end_turn()
            raise
        self._count(verdict, resume_from)
        self._events.on_connected()
        return verdict

    def _expects_snapshot(self, resume_from: Position | None) -> bool:
        """Whether the source will fork. One that does not tell its backlog is asked at once: waiting could cost the place."""
        backlog = self.facts.backlog
        return resume_from is None or (backlog is not None and not backlog.reaches(resume_from))

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.end()
            self._turn = None

    def _count(self, verdict: Verdict, asked: Position | None) -> None:
        stats = self._stats
        if not isinstance(verdict, FullResync):
            assert asked is not None
            stats.partial_resyncs += 1
            log.info("psync.partial_resync", asked=str(asked), replid=verdict.replid)
            return
        stats.full_resyncs += 1
        has = verdict.position
        if asked is None:
            log.info("psync.full_resync", position=str(has))
        else:
            stats.full_resyncs_forced += 1
            log.warning(
                "psync.full_resync",
                asked=str(asked),
                source_has=str(has),
                why="another history: the source was restarted without its replication id, or replaced"
                if asked.replid != has.replid
                else "its backlog no longer reaches back that far",
                remedy="CONFIG SET repl-backlog-size … on the source bridges longer interruptions",
            )

    async def _keep(self, link: ReplicaLink) -> None:
        """Tend the link until it ends; then make another. Ends when that is given up."""
        while True:
            error = await self._tend(link)
            is_whole = link.framing is None or link.framing.is_complete
            self._drop_link()
            while True:
                delay_seconds = self._events.on_lost(error)
                if delay_seconds is None or self._events.stop.is_set():
                    self._events.on_given_up(error)
                    return
                await asyncio.sleep(delay_seconds)
                try:
                    await self._connect(self._spool.position if is_whole else None)
                    break
                except EngineError as another:
                    error = another
            assert self.link is not None
            link = self.link

    async def _tend(self, link: ReplicaLink) -> EngineError:
        """Once a second: acknowledge or keep alive, look for silence, ask how far the source is."""
        asking = asyncio.create_task(self._watch_offset(link), name="watch-source")
        try:
            while not link.ended.done():
                if link.framing is not None and not link.framing.is_complete:
                    link.keep_alive()
                else:
                    self._end_turn()
                    self.acknowledge()
                if link.is_reading and link.seconds_silent > self._silence_seconds:
                    link.fail(
                        SourceLinkLost(f"the source sent nothing for {link.seconds_silent:.0f} s")
                    )
                beat_seconds = IMPATIENT_BEAT_SECONDS if link.awaits_stream else BEAT_SECONDS
                await asyncio.wait({link.ended}, timeout=beat_seconds)
            return link.ended.result()
        finally:
            await end_tasks(asking)

    async def _watch_offset(self, link: ReplicaLink) -> None:
        while True:
            offset = await self._watch.ask_offset()
            self.tells_offset = offset >= 0
            if self.link is link:
                self._stats.source_offset = max(self._stats.source_offset, offset)
                if link.framing is None or link.framing.is_complete:
                    link.note_source_offset(offset)
                    self._spool.wake()  # corrections may be possible now
            # Until the link has caught up expiries wait to be put right, and a short run with them.
            await asyncio.sleep(LATE_BEAT_SECONDS if link.is_late else BEAT_SECONDS)
