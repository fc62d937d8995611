"""What a line says in the log about its two sides."""

from __future__ import annotations

import structlog

from engine.position import Position
from engine.replay.stream_phase import StreamPhase
from engine.replay.target_session import TargetSession
from engine.settings import TaskSettings
from engine.source.intake import Intake
from engine.stats import LineStats

log = structlog.get_logger("engine.line")


def log_connected(
    settings: TaskSettings, line: str, intake: Intake, session: TargetSession
) -> None:
    """Both sides are there."""
    capabilities = session.capabilities
    log.info(
        "line.connected",
        line=line,
        source=intake.endpoint.address,
        source_version=intake.facts.version or "unknown",
        target=settings.target.address,
        target_version=".".join(map(str, capabilities.version)),
        target_server=capabilities.server,
        target_rdb_version=capabilities.rdb_version,
        source_clock_ms=intake.facts.clock_offset_ms,
        target_clock_ms=capabilities.clock_offset_ms,
        epoch=session.epoch,
    )


def warn_of_lost_position(session: TargetSession) -> None:
    """The target has nothing to go on from, although it should."""
    found = session.checkpoint
    if found is not None and found.has_hole:
        log.error(
            "checkpoint.has_hole",
            position=str(found.position),
            means="the target refused a write and took a later one: a full resync follows",
        )
    else:
        log.warning(
            "target.checkpoint_gone",
            means="the target was emptied or replaced, or its snapshot was cut: a full resync follows",
        )


def log_stream_end(session: TargetSession, stream: StreamPhase, stats: LineStats) -> None:
    """A stay in the stream is over."""
    if session.delivery.link.scripts_failed:
        log.warning(
            "stream.scripts_failed",
            count=session.delivery.link.scripts_failed,
            why="they failed at the source as well: sources before 5.0 replicate such scripts",
        )
    if stream.transcoder.flushes:
        log.warning("stream.flushes_applied", count=stream.transcoder.flushes)
    if stats.keys_in_doubt:
        log.warning(
            "stream.keys_in_doubt",
            count=stats.keys_in_doubt,
            means="their values have not come from the source yet: the next run fetches them",
        )
    applied = Position(stream.replid, stats.applied_offset)
    log.info("stream.stopped", position=str(applied), db=stream.transcoder.source_db)
