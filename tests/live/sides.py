"""What the live tests ask the servers of either side."""

from __future__ import annotations

import asyncio

from engine.demo.compare import Comparison, compare
from engine.demo.dataset import fill
from engine.demo.servers import RunningServer

OURS = b"redis-ferry:*"
FIELD_TTLS_SINCE = {"redis": (7, 4, 0), "valkey": (9, 0, 0)}
FUNCTIONS_SINCE = (7, 0, 0)
# Servers wait 5 s for more replicas before a diskless sync, unless told not to.
CONFIG: dict[str, str | int] = {"enable-debug-command": "yes", "repl-diskless-sync-delay": 0}


def has_field_ttls(server: RunningServer) -> bool:
    binary = server.binary
    return binary.version_numbers >= FIELD_TTLS_SINCE[binary.product]


def has_functions(server: RunningServer) -> bool:
    return server.binary.version_numbers >= FUNCTIONS_SINCE


async def filled(server: RunningServer, keys: int, seed: int) -> None:
    await asyncio.to_thread(fill, server.endpoint, keys, seed, field_ttls=has_field_ttls(server))


async def compared(source: RunningServer, target: RunningServer) -> Comparison:
    return await asyncio.to_thread(compare, source.endpoint, target.endpoint)


def offset_of(source: RunningServer) -> int:
    with source.client() as client:
        return int(client.info("replication")["master_repl_offset"])


def keys_of_ours(target: RunningServer) -> list[tuple[int, bytes]]:
    """The engine's own keys, in any database."""
    with target.client() as client:
        dbs = [int(name[2:]) for name in client.info("keyspace")]
    found = []
    for db in dbs:
        with target.client(db) as client:
            found += [(db, key) for key in client.scan_iter(OURS, count=1000)]
    return found


def digest_of(server: RunningServer) -> bytes:
    with server.client() as client:
        return bytes(client.execute_command("DEBUG", "DIGEST"))


def replica_of(source: RunningServer) -> dict[str, str | int]:
    """`slave0` of INFO replication; empty without a replica."""
    with source.client() as client:
        return dict(client.info("replication").get("slave0", {}))
