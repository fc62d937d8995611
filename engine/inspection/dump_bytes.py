"""The bytes of a dump, from a file or from a server that sends its snapshot to a replica."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

from engine.cluster.places import place_of
from engine.endpoint import Endpoint
from engine.errors import ConfigError, EngineError, SourceLinkLost
from engine.settings import SourceSettings, SpoolSettings
from engine.source.intake import Intake, IntakeEvents
from engine.source.snapshot_turns import SnapshotTurns
from engine.spool.chunk import Section
from engine.spool.spool import Spool
from engine.stats import LineStats

PIECE_BYTES = 1 << 18


async def file_chunks(path: Path) -> AsyncIterator[bytes]:
    """The file in pieces of PIECE_BYTES.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except OSError as error:
        raise ConfigError(
            f"cannot read the dump {path}: {error.strerror}", hint="give the path of an RDB file"
        ) from error


async def server_chunks(endpoint: Endpoint) -> AsyncIterator[bytes]:
    """The snapshot that the server makes for a replica; close the iterator when it has ended.

    Raises:
        SourceError: no connection, no permission (PSYNC), or the link was lost.
    """
    lost: list[EngineError] = []

    def give_up(error: EngineError) -> None:
        lost.append(error)
        spool.end(error)

    spool = Spool.recover(SpoolSettings(), line="0", run_name=f"inspect-{time.time_ns()}")
    intake = Intake(
        place_of(endpoint, role="source"),
        SourceSettings(),
        spool,
        LineStats(),
        IntakeEvents(
            on_lost=lambda error: None,  # noqa: ARG005 - none is tried again
            on_verdict=lambda verdict: None,  # noqa: ARG005 - it is always a snapshot
            on_connected=lambda: None,
            on_given_up=give_up,
        ),
        SnapshotTurns(0),
    )
    try:
        await intake.start(None)
        while True:
            chunk = spool.get_now()
            if chunk is None:
                if lost:
                    raise lost[0]
                if not await spool.wait():
                    raise lost[0] if lost else SourceLinkLost("the source ended the link")
                continue
            if chunk.section is Section.STREAM:
                return
            yield chunk.data
    finally:
        await intake.close()
        await spool.close()
