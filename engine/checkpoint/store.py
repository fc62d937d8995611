"""Reading the checkpoint from the target; writing is part of the data (see checkpoint.py)."""

from __future__ import annotations

from typing import cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from engine.checkpoint.checkpoint import Checkpoint, decode
from engine.control_client import control_client
from engine.endpoint import Endpoint
from engine.errors import TargetAuthError, TargetRefused, TargetUnreachable
from engine.settings import TargetSettings

log = structlog.get_logger("engine.checkpoint")


async def read_checkpoint(
    endpoint: Endpoint,
    settings: TargetSettings,
    key: bytes,
    *,
    known_epoch: int,
    connection_prefix: str,
) -> Checkpoint | None:
    """The line's checkpoint on the target, None if there is none; from here on nobody else can move it.

    Older connections of the same line, named connection_prefix…, are closed before it is read: what one of
    them has sent and the target has not yet taken would be applied behind our back.
    known_epoch: of this process's last run of the line, 0 for its first. A higher one on the target belongs
    to another process that has taken over.

    Raises:
        TargetUnreachable: the target did not answer. TargetAuthError: reading is not permitted.
        TargetRefused: the key holds something else, or another process has taken over.
    """
    client = control_client(endpoint, timeout_seconds=settings.connect_timeout_seconds)
    try:
        found = decode(cast(dict[bytes, bytes], await client.hgetall(key)), key)
        if found is not None and 0 < known_epoch < found.epoch:
            raise TargetRefused(
                f"another redis-ferry has taken over this task: its run is number {found.epoch}, "
                f"ours was {known_epoch}",
                hint="let that one go on, or stop it before this one is started again",
            )
        await _close_connections(client, connection_prefix)
        return decode(cast(dict[bytes, bytes], await client.hgetall(key)), key)
    except NoPermissionError as error:
        raise TargetAuthError(
            f"the target {endpoint.address} does not permit the checkpoint to be read: {error}",
            hint="grant it: ACL SETUSER <user> +hgetall ~*",
        ) from None
    except RedisError as error:
        if "WRONGTYPE" in str(error):
            raise TargetRefused(
                f"the target's key {key.decode('utf-8', 'replace')!r} is not a checkpoint",
                hint="delete it or use another --task-id",
            ) from error
        raise TargetUnreachable(
            f"the checkpoint cannot be read from the target {endpoint.address}: {error}"
        ) from error
    finally:
        await client.aclose()


async def _close_connections(client: Redis, prefix: str) -> None:
    try:
        for other in await client.client_list():
            if str(other.get("name", "")).startswith(prefix):
                log.warning("target.old_connection_closed", name=other["name"], id=other["id"])
                await client.client_kill_filter(_id=str(other["id"]))
    except NoPermissionError as error:
        log.warning(
            "target.old_connections_not_closed",
            why=str(error),
            means="an older connection of this task could still write",
            remedy="grant the target's user +@connection",
        )
