"""Every key of one side against the other, through redis-py's own cluster client: no part of it is the engine's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from redis.cluster import RedisCluster

from engine.demo.servers import RunningServer
from tests.fix_servers import HASH_FIELD_TTL
from tests.servers.cluster import RunningCluster

OURS = b"redis-ferry:"
# Servers before 7.0 tell only how long a key still lives, and a page of questions takes its time.
TOLERANCE_MS, OLD_TOLERANCE_MS = 1, 3000
AT_ONCE = 500
MOST_PENDING = 100_000
READS: dict[bytes, Callable[[bytes], tuple[Any, ...]]] = {
    b"string": lambda key: ("GET", key),
    b"list": lambda key: ("LRANGE", key, 0, -1),
    b"set": lambda key: ("SMEMBERS", key),
    b"hash": lambda key: ("HGETALL", key),
    b"zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    b"stream": lambda key: ("XRANGE", key, "-", "+"),
}


@dataclass(frozen=True)
class Elsewhere:
    """A server, or a cluster's primaries, that were not started here: host and port of each."""

    addresses: tuple[tuple[str, int], ...]

    def clients(self) -> list[redis.Redis]:
        return [redis.Redis(host=host, port=port, protocol=2) for host, port in self.addresses]


Side = RunningServer | RunningCluster | Elsewhere
Found = dict[bytes, tuple[bytes, Any, int, Any]]


def everything(side: Side) -> Found:
    """Type, value, expiry (ms since the epoch, -1: none) and more of every key that is not ours.

    More: the groups of a stream; the expiries of a hash's fields, None where the server knows no such.
    """
    if isinstance(side, RunningServer):
        with side.client() as client:
            return _read(client, client)
    if isinstance(side, Elsewhere):
        (host, port), clients = side.addresses[0], side.clients()
    else:
        host, port = "127.0.0.1", side.running[0].server.port
        clients = [it.server.client() for it in side.primaries()]
    if len(clients) == 1:
        with clients[0] as client:
            return _read(client, client)
    cluster = RedisCluster(host=host, port=port, protocol=2)
    found: Found = {}
    try:
        for its in clients:
            with its:
                found |= _read(its, cluster)
    finally:
        cluster.close()
    return found


def _read(names: redis.Redis, values: Any) -> Found:
    keys = sorted({it for it in names.scan_iter(count=1000) if not it.startswith(OURS)})
    tells_moments, has_field_ttls = _tells_moments(names), _has_field_ttls(names)
    found: Found = {}
    for at in range(0, len(keys), AT_ONCE):
        page = keys[at : at + AT_ONCE]
        types = _ask(values, [("TYPE", key) for key in page])
        there = [(key, it) for key, it in zip(page, types, strict=True) if it != b"none"]
        answers = _ask(values, [READS[it](key) for key, it in there])
        if tells_moments:
            left, now_ms = _ask(values, [("PEXPIRETIME", key) for key, _ in there]), 0
        else:
            seconds, micros = names.time()
            now_ms = seconds * 1000 + micros // 1000
            left = _ask(values, [("PTTL", key) for key, _ in there])
        for (key, kind), value, ms in zip(there, answers, left, strict=True):
            plain, more = _plain(kind, value), None
            # Of the node that listed the key.
            if kind == b"stream":
                more = _groups(names, key)
            elif kind == b"hash" and has_field_ttls:
                more = _field_expiries(names, key, sorted(plain))
            found[key] = (kind, plain, -1 if ms < 0 else now_ms + ms, more)
    return found


def _groups(client: redis.Redis, key: bytes) -> dict[bytes, Any]:
    """Of each group where it stands, and what is pending: entry, consumer, deliveries."""
    found = {}
    for group in client.xinfo_groups(key):
        pending = client.xpending_range(key, group["name"], "-", "+", MOST_PENDING)
        assert len(pending) < MOST_PENDING
        found[group["name"]] = (
            group["last-delivered-id"],
            [(it["message_id"], it["consumer"], it["times_delivered"]) for it in pending],
        )
    return found


def _field_expiries(client: redis.Redis, key: bytes, fields: list[bytes]) -> dict[bytes, int]:
    (moments,) = _ask(client, [("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)])
    return {it: moment for it, moment in zip(fields, moments, strict=True) if moment >= 0}


def _has_field_ttls(client: redis.Redis) -> bool:
    info = client.info("server")
    product = "valkey" if "valkey_version" in info else "redis"
    version = tuple(int(it) for it in str(info[f"{product}_version"]).split("."))
    return version >= HASH_FIELD_TTL[product]


def _tells_moments(client: redis.Redis) -> bool:
    return int(client.info("server")["redis_version"].split(".")[0]) >= 7


def _ask(client: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
    pipe = (
        client.pipeline(transaction=False) if isinstance(client, redis.Redis) else client.pipeline()
    )
    for command in commands:
        pipe.execute_command(*command)
    return list(pipe.execute())


def _plain(kind: bytes, value: Any) -> Any:
    if kind == b"set":
        return sorted(value)
    if kind == b"hash" and not isinstance(value, dict):
        return dict(zip(value[::2], value[1::2], strict=True))
    return value


def differences(source: Side, target: Side) -> list[str]:
    """What differs, in words; empty when the sides are equal. Keys that may have expired between the readings are left out."""
    one, other = everything(source), everything(target)
    now_ms = time.time() * 1000
    past = {key for key, (_, _, expires, _) in one.items() if 0 <= expires <= now_ms}
    tolerance_ms = TOLERANCE_MS if _is_exact(source) and _is_exact(target) else OLD_TOLERANCE_MS
    found = [f"missing {key!r}" for key in one.keys() - other.keys() - past]
    found += [f"extra {key!r}" for key in other.keys() - one.keys()]
    for key in (one.keys() & other.keys()) - past:
        kind, value, expires, more = one[key]
        other_kind, other_value, other_expires, other_more = other[key]
        is_far = abs(expires - other_expires) > tolerance_ms
        if (kind, value) != (other_kind, other_value):
            found.append(f"{key!r}: {kind!r} {value!r:.80} is {other_kind!r} {other_value!r:.80}")
        elif (expires < 0) != (other_expires < 0) or is_far:
            found.append(f"{key!r} expires at {expires}, on the target at {other_expires}")
        elif more is not None and other_more is not None and more != other_more:
            found.append(f"{key!r}: {more!r:.80} is {other_more!r:.80}")
    return sorted(found)


def _is_exact(side: Side) -> bool:
    if isinstance(side, Elsewhere):
        client = side.clients()[0]
    else:
        client = (side if isinstance(side, RunningServer) else side.running[0].server).client()
    with client:
        return _tells_moments(client)


def checkpoints(side: RunningCluster) -> list[bytes]:
    """The engine's own keys on all primaries."""
    found: list[bytes] = []
    for node in side.primaries():
        with node.server.client() as client:
            found += client.scan_iter(OURS + b"*", count=1000)
    return sorted(found)
