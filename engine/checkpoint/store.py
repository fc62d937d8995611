"""Reading the checkpoint from the target; writing is part of the data (see checkpoint.py)."""

from __future__ import annotations

from typing import cast

from redis.exceptions import NoPermissionError, RedisError

from engine.checkpoint.checkpoint import Checkpoint, decode
from engine.control_client import control_client
from engine.endpoint import Endpoint
from engine.errors import TargetAuthError, TargetRefused, TargetUnreachable
from engine.settings import TargetSettings


async def read_checkpoint(
    endpoint: Endpoint, settings: TargetSettings, key: bytes
) -> Checkpoint | None:
    """The line's checkpoint on the target, None if there is none.

    Raises:
        TargetUnreachable: the target did not answer. TargetAuthError: reading is not permitted.
        TargetRefused: the key holds something else.
    """
    client = control_client(endpoint, timeout_seconds=settings.connect_timeout_seconds)
    try:
        fields = cast(dict[bytes, bytes], await client.hgetall(key))
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
    return decode(fields, key)
