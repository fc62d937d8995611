"""All that the stream's transcoder is told of a session at the target."""

from __future__ import annotations

from engine.codec.plan import StreamPlan
from engine.position import Position
from engine.replay.target_session import TargetSession
from engine.replay.target_support import command_support
from engine.settings import ConflictPolicy, TaskSettings, UnsupportedPolicy


def stream_plan(
    session: TargetSession,
    settings: TaskSettings,
    *,
    position: Position,
    db: int,
    margin_since_ms: int,
    clock_offset_ms: int,
    source_version: str,
) -> StreamPlan:
    """The plan for what follows `position`, where the stream stands in `db`. The rest: see StreamPlan."""
    return StreamPlan(
        checkpoint_key=session.key,
        is_transactional=session.is_exactly_once,
        replid=position.replid,
        offset=position.offset,
        db=db,
        takes_marks=not settings.selection.is_everything,
        epoch=session.epoch,
        serial=session.serial,
        ledger=session.ledger_id,
        margin_since_ms=margin_since_ms,
        absolute_expiry=session.capabilities.absolute_set,
        clock_offset_ms=clock_offset_ms,
        block_bytes=settings.target_link.block_bytes,
        support=command_support(session.capabilities, settings, source_version=source_version),
        skips_refused=settings.on_unsupported is UnsupportedPolicy.SKIP,
        tells_slots=session.is_cluster,
        # On a cluster replay/cluster_everywhere.py sees to it.
        replaces_libraries=not session.is_cluster
        and settings.on_conflict is ConflictPolicy.REPLACE,
    )
