"""Every key of one side against the other, through redis-py's own cluster client: no part of it is the engine's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from redis.cluster import RedisCluster

from engine.demo.servers import RunningServer
from tests.servers.cluster import RunningCluster

OURS = b"redis-ferry:"
# Servers before 7.0 tell only how long a key still lives, and a page of questions takes its time.
TOLERANCE_MS, OLD_TOLERANCE_MS = 1, 3000
AT_ONCE = 500
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
Found = dict[bytes, tuple[bytes, Any, int]]


def everything(side: Side) -> Found:
    """Type, value and expiry (ms since the epoch, -1: none) of every key that is not ours."""
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
    tells_moments = _tells_moments(names)
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
            found[key] = (kind, _plain(kind, value), -1 if ms < 0 else now_ms + ms)
    return found


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
    past = {key for key, (_, _, expires) in one.items() if 0 <= expires <= now_ms}
    tolerance_ms = TOLERANCE_MS if _is_exact(source) and _is_exact(target) else OLD_TOLERANCE_MS
    found = [f"missing {key!r}" for key in one.keys() - other.keys() - past]
    found += [f"extra {key!r}" for key in other.keys() - one.keys()]
    for key in (one.keys() & other.keys()) - past:
        kind, value, expires = one[key]
        other_kind, other_value, other_expires = other[key]
        is_far = abs(expires - other_expires) > tolerance_ms
        if (kind, value) != (other_kind, other_value):
            found.append(f"{key!r}: {kind!r} {value!r:.80} is {other_kind!r} {other_value!r:.80}")
        elif (expires < 0) != (other_expires < 0) or is_far:
            found.append(f"{key!r} expires at {expires}, on the target at {other_expires}")
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
