"""Source and target servers of a benchmark, and native replication between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import redis

from benchmarks.options import Options, Servers
from engine.demo.servers import RunningServer, find_servers

POLL_SECONDS = 0.005
SYNC_TIMEOUT_SECONDS = 600.0
REPLICA_OUTPUT = ("replica", 0, 0, 0)  # no limit: a slow reader must not be cut off in a benchmark


class BenchmarkError(Exception):
    """A run did not do what was to be timed."""


def source_server(options: Options) -> RunningServer:
    """A source, not yet started: sends its RDB at once, never drops a replica."""
    return _server(
        options,
        options.source,
        {
            "repl-diskless-sync": "yes" if options.is_diskless else "no",
            "repl-diskless-sync-delay": 0,
            "repl-backlog-size": "64mb",
            "client-output-buffer-limit": REPLICA_OUTPUT,
        },
    )


def target_server(options: Options) -> RunningServer:
    """A target, not yet started: replica or not, the same settings."""
    return _server(options, options.target, {"repl-diskless-load": options.replica_load})


def _server(
    options: Options, name: str, config: Mapping[str, str | int | Sequence[str | int]]
) -> RunningServer:
    binary = find_servers()[name]
    if options.servers is Servers.CONTAINERS:
        from benchmarks.containers import BridgedServer

        return BridgedServer(binary, config={**config, "enable-debug-command": "yes"})
    return RunningServer(binary, config={**config, "enable-debug-command": "local"})


def wait_until(
    is_so: Callable[[], bool], what: str, timeout_seconds: float = SYNC_TIMEOUT_SECONDS
) -> float:
    """Poll every 5 ms; return the monotonic moment when `is_so`.

    Raises:
        BenchmarkError: not within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what}: not within {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


def replicate(source: RunningServer, target: RunningServer) -> float:
    """Make `target` a replica; return the seconds until the link is up and the key counts are equal."""
    client = target.client()
    keys = key_count(source.client())

    def is_complete() -> bool:
        link = cast(Mapping[str, object], client.info("replication"))
        return link["master_link_status"] == "up" and key_count(client) == keys

    started = time.monotonic()
    client.replicaof(source.host, source.port)
    return wait_until(is_complete, "native replication") - started


def key_count(client: redis.Redis) -> int:
    """Keys in database 0; -1 while the server loads."""
    try:
        return int(client.dbsize())
    except redis.BusyLoadingError:
        return -1


def digest(server: RunningServer) -> bytes:
    """DEBUG DIGEST: equal for equal keys, values and whether they expire."""
    client: Any = server.client(timeout_seconds=SYNC_TIMEOUT_SECONDS)
    return bytes(client.execute_command("DEBUG", "DIGEST"))


def cpu_seconds(server: RunningServer) -> float:
    """CPU time of the server and its children so far."""
    figures = cast(Mapping[str, float], server.client().info("cpu"))
    names = ("used_cpu_user", "used_cpu_sys", "used_cpu_user_children", "used_cpu_sys_children")
    return sum(float(figures[name]) for name in names)
