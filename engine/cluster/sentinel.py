"""Asks Sentinels where the primary of a name is now (sentinel.c, sentinelCommand: GET-MASTER-ADDR-BY-NAME)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redis.exceptions import AuthenticationError, RedisError

from engine.cluster.discovery import mapped_address
from engine.control_client import LOST, control_client, raise_if_cancelled
from engine.endpoint import Endpoint, Role, SentinelGroup
from engine.errors import (
    ConfigError,
    EngineError,
    SourceAuthError,
    SourceNotReady,
    SourceUnreachable,
    TargetAuthError,
    TargetNotReady,
    TargetUnreachable,
)

SENTINEL_TIMEOUT_SECONDS = 2.0
_UNREACHABLE = {"source": SourceUnreachable, "target": TargetUnreachable}
_AUTH = {"source": SourceAuthError, "target": TargetAuthError}


async def ask_primary(endpoint: Endpoint, *, role: Role) -> Endpoint:
    """The primary's own address, with the servers' login; the first Sentinel that answers is believed if it checks.

    An answer is believed when the server there calls itself a primary: in a failover some Sentinels are late.

    Raises:
        ConfigError: no Sentinel knows the name. SourceUnreachable, TargetUnreachable: no Sentinel answers.
        SourceNotReady, TargetNotReady: what they name is no primary yet. SourceAuthError, TargetAuthError.
    """
    group = endpoint.sentinel
    assert group is not None
    failure: EngineError | None = None
    for host, port in group.addresses:
        at = replace(
            endpoint,
            host=host,
            port=port,
            username=group.username,
            password=group.password,
            sentinel=None,
            more=(),
        )
        try:
            found = await _ask_one(at, group, role)
        except EngineError as error:
            # A Sentinel that refuses the login or does not know the name says so about all of them; another may
            # still be asked.
            failure = failure if isinstance(error, ConfigError) and failure else error
            continue
        to_host, to_port = mapped_address(*found, endpoint.address_map)
        primary = replace(endpoint, host=to_host, port=to_port, sentinel=None, more=())
        if await _is_primary(primary):
            return primary
        failure = _not_ready(role, group, primary)
    assert failure is not None
    raise failure


async def _ask_one(at: Endpoint, group: SentinelGroup, role: Role) -> tuple[str, int]:
    client = control_client(at, timeout_seconds=SENTINEL_TIMEOUT_SECONDS)
    try:
        reply: Any = await client.execute_command(  # type: ignore[no-untyped-call]
            "SENTINEL", "GET-MASTER-ADDR-BY-NAME", group.primary_name
        )
        raise_if_cancelled()
    except AuthenticationError as error:
        raise _AUTH[role](
            f"the Sentinel {at.address} of the {role} refuses the login: {error}",
            hint=f"check --{role}-sentinel-user and --{role}-sentinel-password-file",
        ) from None
    except LOST as error:
        raise_if_cancelled()
        if isinstance(error, RedisError) and "NOAUTH" in str(error):
            raise _AUTH[role](
                f"the Sentinel {at.address} of the {role} asks for a password",
                hint=f"give it with --{role}-sentinel-password-file",
            ) from None
        raise _UNREACHABLE[role](
            f"no answer from the Sentinel {at.address} of the {role}: {error}",
            hint="name Sentinels that run, like redis+sentinel://host:26379,host2:26379/name",
        ) from error
    finally:
        await client.aclose()
    if not reply:
        raise ConfigError(
            f"the Sentinel {at.address} of the {role} knows no primary called {group.primary_name!r}",
            hint="redis-cli -p 26379 SENTINEL MASTERS lists the names",
        )
    return bytes(reply[0]).decode(), int(reply[1])


async def _is_primary(endpoint: Endpoint) -> bool:
    client = control_client(endpoint, timeout_seconds=SENTINEL_TIMEOUT_SECONDS)
    try:
        info = await client.info("replication")
        raise_if_cancelled()
    except LOST as error:
        raise_if_cancelled()
        # One that answers, whatever it says, is left to those who connect: they name the trouble.
        return isinstance(error, RedisError) and "NO" in str(error)
    else:
        return bool(info.get("role") == "master")
    finally:
        await client.aclose()


def _not_ready(role: Role, group: SentinelGroup, primary: Endpoint) -> EngineError:
    text = f"the Sentinels of the {role} name {primary.address} for {group.primary_name!r}, which is no primary now"
    if role == "source":
        return SourceNotReady(text, hint="a failover is under way: wait")
    return TargetNotReady(text, code="READONLY", hint="a failover is under way: wait")
