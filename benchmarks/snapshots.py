"""A server's RDB, and the commands that redis-ferry makes of it, without redis-ferry running."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from benchmarks.pairs import SYNC_TIMEOUT_SECONDS
from engine.codec.plan import SnapshotPlan
from engine.codec.snapshot import SnapshotTranscoder
from engine.demo.servers import RunningServer
from engine.settings import TargetSettings
from engine.target.capabilities import probe_target

CHUNK_BYTES = 256 * 1024


def saved_rdb(server: RunningServer) -> Path:
    """SAVE, and the path of the file; it goes with the server."""
    client = server.client(timeout_seconds=SYNC_TIMEOUT_SECONDS)
    client.save()
    setting = cast("dict[str, str]", client.config_get("dbfilename"))  # str in any mode of redis-py
    if isinstance(server, RunningServer) and hasattr(server, "fetched"):
        return Path(server.fetched(setting["dbfilename"]))
    return server.directory / setting["dbfilename"]


def snapshot_plan(target: RunningServer) -> SnapshotPlan:
    """The plan that redis-ferry makes for this target."""
    capabilities = asyncio.run(probe_target(target.endpoint, TargetSettings()))
    return SnapshotPlan(
        target_rdb_version=capabilities.rdb_version,
        redis_types=capabilities.redis_types,
        valkey_types=capabilities.valkey_types,
        strings_as_set=capabilities.absolute_set,
        functions=capabilities.functions,
        key_metadata=capabilities.key_metadata,
    )


def encoded_snapshot(source: RunningServer, target: RunningServer) -> list[tuple[bytes, int]]:
    """What redis-ferry would send to `target`, made from a SAVE of `source`: (commands, replies due)."""
    transcoder = SnapshotTranscoder(snapshot_plan(target))
    blocks: list[tuple[bytes, int]] = []
    with saved_rdb(source).open("rb") as rdb:
        while chunk := rdb.read(CHUNK_BYTES):
            transcoder.feed(chunk)
            while (block := transcoder.next_block(False)) is not None:
                blocks.append((block.data, block.replies))
    while (block := transcoder.next_block(True)) is not None:
        blocks.append((block.data, block.replies))
    transcoder.finish()
    return blocks
