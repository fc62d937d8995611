"""Asking a server, before a task is started, whether it lets us in and what it is."""

from __future__ import annotations

from dataclasses import dataclass

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint

PROBE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a server said. trouble: why it could not be asked, empty if it answered."""

    password_is_refused: bool = False
    is_cluster: bool = False
    version: str = ""
    trouble: str = ""


async def probe(endpoint: Endpoint) -> Finding:
    """Log in and ask INFO; never raises. At most some PROBE_TIMEOUT_SECONDS a step."""
    client = control_client(endpoint, timeout_seconds=PROBE_TIMEOUT_SECONDS)
    try:
        await client.ping()
        info = await client.info()
    except AuthenticationError as error:
        raise_if_cancelled()
        return Finding(password_is_refused=True, trouble=str(error))
    except NoPermissionError:
        raise_if_cancelled()
        return Finding()  # it let us in; the engine says what else it needs
    except ResponseError as error:
        raise_if_cancelled()
        # Before 6.0 a password for a server that has none is answered with a plain error.
        refused = "AUTH" in str(error).upper() or "PASS" in str(error).upper()
        return Finding(password_is_refused=refused, trouble=str(error))
    except (RedisError, OSError) as error:
        raise_if_cancelled()
        return Finding(trouble=str(error) or type(error).__name__)
    finally:
        await client.aclose()
    raise_if_cancelled()
    return Finding(
        is_cluster=bool(info.get("cluster_enabled")),
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
    )
