"""What a task leaves behind when it will not be resumed: its checkpoint in the target, its folder here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import structlog
from redis.exceptions import RedisError

from engine.checkpoint.catalog import remove_of_task, remove_of_task_on_shard
from engine.cluster.discovery import primaries_of
from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import EngineError

log = structlog.get_logger("engine.service")

TIMEOUT_SECONDS = 2.0


async def remove_leftovers(target: Endpoint | None, engine_task_id: str, folder: Path) -> None:
    """Remove both as far as possible; what cannot be removed is logged and does no harm."""
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if target is None:
        return
    try:
        primaries = await primaries_of(target, role="target", timeout_seconds=TIMEOUT_SECONDS)
        for server in primaries or [target]:
            async with contextlib.aclosing(
                control_client(server, timeout_seconds=TIMEOUT_SECONDS)
            ) as client:
                if primaries is None:
                    await remove_of_task(client, engine_task_id)
                else:
                    await remove_of_task_on_shard(client, engine_task_id)
    except (EngineError, RedisError, OSError) as error:
        raise_if_cancelled()
        log.warning(
            "checkpoint.not_removed",
            task=engine_task_id,
            target=target.address,
            error=str(error),
            remedy="remove it by hand when the target is back; redis-ferry tasks forget",
        )
    raise_if_cancelled()
