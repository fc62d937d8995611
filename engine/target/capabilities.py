"""What a target is and can load, found out by asking and by trying, before anything is migrated.

The RDB version comes from DUMPing a probe key, the newer value types from RESTOREing tiny values of each:
that works on every fork, whatever it calls itself. All of it happens in one transaction that removes the key
again, so nothing is left and nobody sees it.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from engine.codec.crc64 import crc64
from engine.connect import connect_hint
from engine.control_client import control_client, reply_text
from engine.endpoint import Endpoint
from engine.errors import (
    EngineError,
    TargetAuthError,
    TargetNotReady,
    TargetRefused,
    TargetUnreachable,
)
from engine.settings import TargetSettings
from engine.target.replies import auth_error, not_ready

PROBE_PREFIX = "redis-ferry:probe:"
COMMAND_LIST_SINCE = (7, 0)
# What a server has whose configuration may not be read: the defaults (config.c).
BULK_LIMIT_BYTES = 512 * 1024 * 1024
QUERY_LIMIT_BYTES = 1024 * 1024 * 1024

# Types that come with an RDB version and are in every fork with that version (rdb.h).
_TYPES_BY_VERSION: tuple[tuple[int, tuple[int, ...]], ...] = (
    (1, (0, 1, 2, 3, 4)),
    (2, (9, 10, 11, 12)),
    (4, (13,)),
    (7, (14,)),
    (8, (5, 7)),
    (9, (15,)),
    (10, (16, 17, 18, 19)),
    (11, (20, 21)),
)
_FIELD = b"\x01f\x01v"  # STR field, STR value
_FAR_MS = (4102444800000).to_bytes(8, "little")  # 2100-01-01: no probe value may be expired
_LISTPACK_EX = bytes.fromhex("0f000000 0300 8166 02 8176 02 00 01 ff")
_EMPTY_STREAM_4 = b"\x00" + b"\x00" * 8 + b"\x00" + b"\x00" * 5

# (family, type) -> the smallest value of it. Type 22 means different things in the two families.
_PROBES: dict[tuple[str, int], bytes] = {
    ("redis", 24): _FAR_MS + b"\x01\x01" + _FIELD,
    ("redis", 25): b"\x00" * 8 + bytes([len(_LISTPACK_EX)]) + _LISTPACK_EX,
    ("redis", 26): _EMPTY_STREAM_4,
    ("valkey", 22): b"\x01" + _FIELD + _FAR_MS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """A target at the start of a line.

    rdb_version: what it writes and therefore accepts in a payload's footer. redis_types, valkey_types: value
    types it loads, by the family of the source. clock_offset_ms: its clock minus ours.
    """

    server: str
    version: tuple[int, int, int]
    rdb_version: int
    redis_types: frozenset[int]
    valkey_types: frozenset[int]
    functions: bool
    key_metadata: bool
    absolute_set: bool  # SET … PXAT and GETEX (6.2)
    level: tuple[int, int]  # the version of Redis it is compatible with
    commands: frozenset[bytes]  # in upper case; empty where it may not be asked (COMMAND)
    clock_offset_ms: int
    key_count: int
    dbs: tuple[int, ...]  # that hold keys
    bulk_limit_bytes: int  # of one argument and of a string: proto-max-bulk-len
    query_limit_bytes: int  # of one command: client-query-buffer-limit
    replid: str  # of its own replication history
    run_id: str  # of the server's process: another one may have lost what this one had

    @property
    def has_field_ttls(self) -> bool:
        """Whether hashes can have fields that expire."""
        return 24 in self.redis_types or 22 in self.valkey_types


def _payload(value_type: int, value: bytes, rdb_version: int) -> bytes:
    body = bytes([value_type]) + value + rdb_version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


class TargetIsCluster(TargetRefused):
    """The target is a node of a cluster, and was not expected to be one."""


async def probe_target(
    endpoint: Endpoint, settings: TargetSettings, *, cluster_tag: str | None = None
) -> Capabilities:
    """Ask the target what it is and can load.

    cluster_tag: it is a primary of a cluster, and keys with this hash tag are its.

    Raises:
        TargetUnreachable, TargetAuthError.
        TargetRefused: it is a replica or too old. TargetIsCluster: it is a cluster node.
    """
    client = control_client(endpoint, timeout_seconds=settings.connect_timeout_seconds)
    try:
        return await _probe(client, endpoint, cluster_tag)
    except AuthenticationError as error:
        raise auth_error(endpoint, str(error)) from None
    except NoPermissionError as error:
        raise TargetAuthError(
            f"the target {endpoint.address} does not permit what the migration needs: {error}",
            hint="grant it: ACL SETUSER <user> ~* +@write +@read +@transaction +@connection +info +time",
        ) from None
    except BusyLoadingError as error:  # a ConnectionError of redis-py's
        raise _refused(endpoint, reply_text(error)) from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise TargetUnreachable(
            f"cannot connect to the target {endpoint.address}: {error}",
            hint=connect_hint(endpoint, "target", str(error)),
        ) from error
    except (AskError, MovedError) as error:
        raise TargetNotReady(
            f"slots of the target {endpoint.address} are being moved: {error}", code="TRYAGAIN"
        ) from error
    except RedisError as error:
        raise _refused(endpoint, reply_text(error)) from error
    finally:
        await client.aclose()


def _refused(endpoint: Endpoint, text: str) -> EngineError:
    if (busy := not_ready(endpoint, text)) is not None:
        return busy
    if "NOAUTH" in text or "WRONGPASS" in text or "AUTH" in text.split(" ", 1)[0]:
        return auth_error(endpoint, text)
    return TargetRefused(
        f"the target {endpoint.address} cannot take the migration: {text}",
        hint="it must be a writable primary of Redis 5 or newer, Valkey, KeyDB or Redict",
    )


async def _probe(client: Redis, endpoint: Endpoint, cluster_tag: str | None) -> Capabilities:
    info = await client.info()
    if info.get("cluster_enabled") and cluster_tag is None:
        raise TargetIsCluster(f"the target {endpoint.address} is a cluster node")
    prefix = PROBE_PREFIX if cluster_tag is None else f"{PROBE_PREFIX}{{{cluster_tag}}}"
    if info.get("role") == "slave":
        raise TargetNotReady(
            f"the target {endpoint.address} is a replica of {info.get('master_host')}:{info.get('master_port')}",
            code="READONLY",
            hint="use its primary's address, or end the replication with REPLICAOF NO ONE",
        )
    rdb_version = await _probe_rdb_version(client, prefix)
    redis_types, valkey_types = await _probe_types(client, rdb_version, prefix)
    before = time.time()
    seconds, microseconds = await client.time()
    after = time.time()
    clock_offset_ms = round(seconds * 1000 + microseconds / 1000 - (before + after) * 500)
    name = str(info.get("server_name", "redis"))
    text = str(info.get("valkey_version") or info.get("redis_version", "0"))
    dbs = {
        # Redis 8 has lines like db0_distrib_strings_sizes as well.
        int(name[2:]): int(keys["keys"])
        for name, keys in info.items()
        if name.startswith("db") and name[2:].isdigit()
    }
    bulk_limit, query_limit = await _ask_limits(client)
    major, minor, patch = (
        *(int("0" + "".join(filter(str.isdigit, p))) for p in text.split(".")),
        0,
        0,
    )[:3]
    compatible = str(info.get("redis_version", "0")).split(".")
    level = (int(compatible[0]), int(compatible[1]) if len(compatible) > 1 else 0)
    return Capabilities(
        server=name,
        version=(major, minor, patch),
        rdb_version=rdb_version,
        redis_types=redis_types,
        valkey_types=valkey_types,
        functions=rdb_version >= 10,
        key_metadata=26 in redis_types,
        absolute_set=level >= (6, 2),
        level=level,
        commands=await _ask_commands(client, level),
        clock_offset_ms=clock_offset_ms,
        replid=str(info.get("master_replid", "")),
        run_id=str(info.get("run_id", "")),
        key_count=sum(dbs.values()),
        dbs=tuple(sorted(dbs)),
        bulk_limit_bytes=bulk_limit,
        query_limit_bytes=query_limit,
    )


async def _ask_limits(client: Redis) -> tuple[int, int]:
    """proto-max-bulk-len and client-query-buffer-limit; what may not be asked has its default."""
    found = []
    for name, default in (
        ("proto-max-bulk-len", BULK_LIMIT_BYTES),
        ("client-query-buffer-limit", QUERY_LIMIT_BYTES),
    ):
        try:
            answer = await client.config_get(name)
            found.append(int(answer[name] or default))
        except (ResponseError, KeyError, ValueError):  # also NoPermissionError
            found.append(default)
    return found[0], found[1]


async def _ask_commands(client: Redis, level: tuple[int, int]) -> frozenset[bytes]:
    try:
        if level >= COMMAND_LIST_SINCE:
            names = await client.execute_command("COMMAND LIST")  # type: ignore[no-untyped-call]
            return frozenset(bytes(name).upper() for name in names)
        table = await client.command()
    except ResponseError:  # NoPermissionError as well, and where the command is renamed
        return frozenset()
    return frozenset(str(name).upper().encode() for name in table)


async def _probe_rdb_version(client: Redis, prefix: str) -> int:
    key = prefix + secrets.token_hex(8)
    async with client.pipeline(transaction=True) as pipe:
        pipe.set(key, "x", px=60_000)
        pipe.dump(key)
        pipe.delete(key)
        payload = (await pipe.execute())[1]
    return int.from_bytes(payload[-10:-8], "little")


async def _probe_types(
    client: Redis, rdb_version: int, prefix: str
) -> tuple[frozenset[int], frozenset[int]]:
    known = {
        number for version, types in _TYPES_BY_VERSION if version <= rdb_version for number in types
    }
    families = {"redis": set(known), "valkey": set(known)}
    for (family, number), value in _PROBES.items():
        key = prefix + secrets.token_hex(8)
        # A type number that the target's own family uses otherwise must not be tried: 22 and up.
        if (family == "valkey") != (rdb_version >= 80):
            continue
        async with client.pipeline(transaction=True) as pipe:
            pipe.restore(key, 60_000, _payload(number, value, rdb_version))
            pipe.delete(key)
            answer = (await pipe.execute(raise_on_error=False))[0]
        if not isinstance(answer, ResponseError):
            families[family].add(number)
    return frozenset(families["redis"]), frozenset(families["valkey"])
