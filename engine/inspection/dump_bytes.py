"""The bytes of a dump, from a file or from a server that sends its snapshot to a replica."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.places import FixedPlace, place_of
from engine.endpoint import Endpoint
from engine.errors import ConfigError, EngineError, SourceLinkLost, SourceRefused
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


async def shards_of(endpoint: Endpoint, *, reads_from_replica: bool) -> list[Endpoint]:
    """A node of each shard where the server is of a cluster; else the server itself.

    Raises:
        SourceUnreachable, SourceAuthError, SourceNotReady. SourceRefused: slots are served by nobody.
    """
    if endpoint.sentinel is not None or endpoint.unix_path is not None:
        return [endpoint]
    seconds = SourceSettings().connect_timeout_seconds
    found = await ask_cluster_map(endpoint, role="source", timeout_seconds=seconds)
    if found is None:
        return [endpoint]
    if found.unserved:
        raise SourceRefused(
            f"{found.unserved} slots of the cluster are served by nobody",
            hint="repair it first: redis-cli --cluster check, redis-cli --cluster fix",
        )
    nodes = []
    for shard in found.shards:
        replica = next((it for it in shard.replicas if it.is_up), None)
        nodes.append(replica if replica is not None and reads_from_replica else shard.primary)
    return [endpoint_of(it, endpoint) for it in nodes]


async def server_chunks(endpoint: Endpoint, *, is_shard: bool = False) -> AsyncIterator[bytes]:
    """The snapshot that the server makes for a replica; close the iterator when it has ended.

    is_shard: it is a node of a cluster, one of `shards_of`.

    Raises:
        SourceError: no connection, no permission (PSYNC), or the link was lost.
    """
    lost: list[EngineError] = []

    def give_up(error: EngineError) -> None:
        lost.append(error)
        spool.end(error)

    spool = Spool.recover(SpoolSettings(), line="0", run_name=f"inspect-{time.time_ns()}")
    intake = Intake(
        FixedPlace(endpoint, is_cluster_shard=True)
        if is_shard
        else place_of(endpoint, role="source"),
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
