"""Two servers, a task between them, a load on the source, and ways to break it.

A fault test asserts three things: equal data, the way it took, nothing left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from engine.checkpoint.checkpoint import checkpoint_key
from engine.demo.servers import RunningServer
from engine.settings import (
    TaskSettings,
)
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.fix_servers import StartServer
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import compared, filled, keys_of_ours, offset_of
from tests.live.workload import Writing, writing

PAIR = ("redis-8.2", "redis-8.2")
PAIRS = [("redis-6.2", "redis-8.2"), ("valkey-8.1", "valkey-9.1"), PAIR]
SOURCE_CONFIG = {
    "repl-diskless-sync-delay": 0,
    "repl-backlog-size": "32mb",
    "repl-ping-replica-period": 1,
}
AOF = {"appendonly": "yes", "appendfsync": "always"}
MIB = 1024 * 1024
RATE = 1500
KEYS = 1500
PROMPT_SECONDS = 3.0
SIDES = ("source", "target")


@dataclass(frozen=True)
class Ways:
    """Which ways a task took."""

    full: int
    partial: int
    reconnects: int


def ways_of(run: Run) -> Ways:
    status = run.task.status()
    return Ways(status.full_resyncs, status.partial_resyncs, status.reconnects)


@dataclass(frozen=True)
class World:
    """A source with data, an empty target, a task's settings."""

    source: RunningServer
    target: RunningServer
    settings: TaskSettings

    async def is_equal_and_clean(self) -> bool:
        """Equal data, and of ours only the checkpoint in the target; nobody connected."""
        found = await compared(self.source, self.target)
        assert found.is_equal, str(found)
        assert keys_of_ours(self.target) == [(0, checkpoint_key(self.settings.task_id, "0"))]
        await until(lambda: not links_of(self.target), "our connections are gone from the target")
        return True

    async def is_caught_up(self, run: Run) -> None:
        """The target has everything that the source has now."""
        await run.reaches_offset(offset_of(self.source))
        await run.reaches(lambda: not owes_corrections(run), "no expiry is to be corrected")


def links_of(target: RunningServer) -> list[int]:
    """Ids of the connections that carry data to the target."""
    with target.client() as client:
        return [
            int(it["id"]) for it in client.client_list() if it["name"].startswith("redis-ferry:")
        ]


def owes_corrections(run: Run) -> bool:
    """Whether expiries on the target are still to be put right."""
    return run.task.status().expiries_owed


def kill_replica(source: RunningServer) -> None:
    with source.client() as client:
        assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == 1


def kill_target_link(target: RunningServer) -> None:
    (link,) = links_of(target)
    with target.client() as client:
        client.execute_command("CLIENT", "KILL", "ID", link)


def kill_link(world: World, side: str) -> None:
    """End the data connection to the source or to the target."""
    if side == "source":
        kill_replica(world.source)
    else:
        kill_target_link(world.target)


async def make_world(
    start_server: StartServer,
    *,
    pair: tuple[str, str] = PAIR,
    source_config: dict[str, str | int] | None = None,
    target_config: dict[str, str | int] | None = None,
    keys: int = KEYS,
    **changes: Any,
) -> World:
    source = start_server(pair[0], config=SOURCE_CONFIG | (source_config or {}))
    target = start_server(pair[1], config=target_config)
    await filled(source, keys, seed=6)
    return World(source, target, make_settings(source.endpoint, target.endpoint, **changes))


@asynccontextmanager
async def following(world: World) -> AsyncIterator[tuple[Run, Writing]]:
    """A task in the middle of the stream of a writing source. At the end nothing of it is left."""
    before = asyncio.all_tasks()
    async with running(world.settings) as run, writing(world.source.endpoint, rate=RATE) as load:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await load.has_written(500)
        yield run, load
    assert asyncio.all_tasks() <= before


async def is_back(run: Run, deadline_seconds: float = 30.0) -> None:
    """It noticed, and then went on."""
    await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
    await run.reaches(
        lambda: run.task.state is TaskState.STREAM,
        "the stream again",
        deadline_seconds=deadline_seconds,
    )


@contextmanager
def stopped(server: RunningServer) -> Iterator[None]:
    """The process stands still."""
    server.pause()
    try:
        yield
    finally:
        server.unpause()


def events(logs: list[Any], name: str) -> list[Any]:
    return [it for it in logs if it["event"] == name]
