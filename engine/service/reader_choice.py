"""Which reader a source needs, and the settings with what it serves: for `sync` and for tasks of the service."""

from __future__ import annotations

from dataclasses import replace

import structlog

from engine.cluster.places import place_of
from engine.errors import EngineError, SourceAuthError, SourceProtocolError, SourceRefused
from engine.preflight.permissions import Answer
from engine.preflight.source_side import ask_source
from engine.readers.scan_source import ScanSource
from engine.settings import (
    CrossSlotPolicy,
    Method,
    SourceKind,
    SourceReader,
    SpoolSettings,
    TaskSettings,
)
from engine.source.replica_link import ReplicaLink
from engine.spool.spool import Spool

log = structlog.get_logger("engine.readers")


async def choose_reader(settings: TaskSettings) -> TaskSettings:
    """The settings with `auto` decided; the log says why it is not PSYNC.

    A source that cannot be reached is left to the replica link, which knows whether to try again.
    """
    if settings.source_reader is not SourceReader.AUTO:
        return settings
    refusal = await psync_refusal(settings)
    if refusal is None:
        return replace(settings, source_reader=SourceReader.PSYNC)
    log.warning(
        "reader.scan", why=refusal, means="the source is read key by key, which promises less"
    )
    return replace(settings, source_reader=SourceReader.SCAN)


async def psync_refusal(settings: TaskSettings) -> str | None:
    """Why the source does not serve a replica; None if it does, or is not there.

    Where it does not tell, PSYNC is tried in earnest and the link dropped at once.
    """
    timeout_seconds = settings.source_link.connect_timeout_seconds
    try:
        endpoint = await place_of(settings.source, role="source").locate()
    except EngineError:
        return None
    state = await ask_source(endpoint, timeout_seconds=timeout_seconds, sample_seconds=0)
    if state.error is not None:
        return None
    denied = {it.command for it in state.denials} & {"PSYNC", "REPLCONF"}
    if denied:
        return f"the user may not use {' and '.join(sorted(denied))}"
    if state.psync is Answer.ABSENT:
        return "the source does not know PSYNC"
    if state.psync is Answer.ALLOWED:
        return None
    spool = Spool.recover(SpoolSettings(), line="probe", run_name="probe")
    try:
        link, _ = await ReplicaLink.open(
            endpoint,
            settings.source_link,
            spool,
            resume_from=None,
            on_verdict=lambda verdict: None,  # noqa: ARG005 - that there is one is all
        )
        link.close()
    except (SourceRefused, SourceAuthError, SourceProtocolError) as error:
        return error.message
    except EngineError:
        return None
    finally:
        await spool.close()
    return None


def replayed(settings: TaskSettings) -> TaskSettings:
    """The settings for an append-only file: its commands are followed to their end, and nobody can be asked for values."""
    return replace(
        settings,
        source_kind=SourceKind.FILE,
        method=Method.INCREMENTAL,
        exit_when_synced=True,
        on_cross_slot=CrossSlotPolicy.STOP,
    )


def make_scan_source(settings: TaskSettings) -> ScanSource:
    """The reader of these settings' source; `scanned` gives the engine its address."""
    directory = settings.spool.directory
    return ScanSource(
        settings.source,
        changes=settings.scan_changes,
        timeout_seconds=settings.source_link.connect_timeout_seconds,
        directory=None if directory is None else directory / "scan",
    )


def scanned(settings: TaskSettings, reader: ScanSource) -> TaskSettings:
    """The settings with the reader in the source's place."""
    return replace(
        settings,
        source=replace(reader.endpoint, shown=settings.source.address),
        read_server=settings.source,
        source_kind=SourceKind.SCAN,
        source_link=replace(settings.source_link, keeps_position=False),
    )
