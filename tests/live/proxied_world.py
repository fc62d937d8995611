"""A world of tests/live/world.py with a fault proxy before each server."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.settings import SourceSettings, TargetSettings
from tests.conditions import until
from tests.fix_servers import StartServer
from tests.live.running_task import Run, running
from tests.live.workload import Writing, writing
from tests.live.world import World, make_world
from tests.servers.fault_proxy import FaultProxy

RATE = 800
KEYS = 300
QUIET_SECONDS = 1.5
# The RDB with its length before it, so that a cut can be placed in it.
SOURCE_CONFIG: dict[str, str | int] = {"repl-diskless-sync": "no"}
SHORT_TIMEOUTS: dict[str, Any] = {
    "source_link": SourceSettings(
        connect_timeout_seconds=QUIET_SECONDS,
        handshake_timeout_seconds=QUIET_SECONDS,
        silence_timeout_seconds=QUIET_SECONDS,
    ),
    "target_link": TargetSettings(
        connect_timeout_seconds=QUIET_SECONDS, reply_timeout_seconds=QUIET_SECONDS
    ),
}


@dataclass(frozen=True)
class ProxiedWorld:
    """world: its settings lead through the proxies."""

    world: World
    source: FaultProxy
    target: FaultProxy

    def proxy(self, side: str) -> FaultProxy:
        return self.source if side == "source" else self.target


@asynccontextmanager
async def proxied_world(start_server: StartServer, **changes: Any) -> AsyncIterator[ProxiedWorld]:
    changes = {"source_config": SOURCE_CONFIG, "keys": KEYS} | changes
    direct = await make_world(start_server, **changes)
    with tempfile.TemporaryDirectory(prefix="redis-ferry-") as folder:
        async with (
            FaultProxy(direct.source.port) as source,
            FaultProxy(direct.target.port) as target,
        ):
            yield ProxiedWorld(_led_through(direct, source, target, Path(folder)), source, target)


def _led_through(world: World, source: FaultProxy, target: FaultProxy, folder: Path) -> World:
    settings = replace(
        world.settings,
        spool=replace(world.settings.spool, directory=folder / "t1"),
        source=replace(world.settings.source, port=source.port),
        target=replace(world.settings.target, port=target.port),
    )
    return World(world.source, world.target, settings)


@asynccontextmanager
async def under_load(it: ProxiedWorld, *, seed: int = 1) -> AsyncIterator[tuple[Run, Writing]]:
    """A task from its first connection on, while the source is written. Nothing of it may be left."""
    before = asyncio.all_tasks()
    async with (
        running(it.world.settings) as run,
        writing(it.world.source.endpoint, rate=RATE, seed=seed) as load,
    ):
        yield run, load
    await until(
        lambda: not (it.source.connections or it.target.connections), "the connections are closed"
    )
    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert left <= {"fault proxy", "fault proxy connection"}, left
