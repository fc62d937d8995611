"""Lost connections and servers that die or hang, under a load that tells each command apart.

Every test asserts the three things: equal data, the way it took, nothing left over.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.checkpoint.checkpoint import checkpoint_key
from engine.demo.servers import RunningServer
from engine.errors import SourceLinkLost, TargetLinkLost
from engine.settings import (
    ResumeMode,
    SourceSettings,
    SpoolSettings,
    TargetSettings,
    TaskSettings,
)
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.control.command_line import COMMAND, environment
from tests.fix_servers import StartServer
from tests.live.counting import counting
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import compared, filled, keys_of_ours, offset_of
from tests.live.workload import Writing, writing

pytestmark = pytest.mark.live

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


def links_of(target: RunningServer) -> list[int]:
    """Ids of the connections that carry data to the target."""
    with target.client() as client:
        return [
            int(it["id"]) for it in client.client_list() if it["name"].startswith("redis-ferry:")
        ]


def owes_corrections(run: Run) -> bool:
    """Whether relative TTLs of an old source that came late are still as they came."""
    line = run.task._line
    return line is None or line._stream is None or line._stream.owes_corrections


def kill_replica(source: RunningServer) -> None:
    with source.client() as client:
        assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == 1


def kill_target_link(target: RunningServer) -> None:
    (link,) = links_of(target)
    with target.client() as client:
        client.execute_command("CLIENT", "KILL", "ID", link)


@pytest.fixture
async def world(start_server: StartServer) -> World:
    return await make_world(start_server)


async def make_world(
    start_server: StartServer,
    *,
    pair: tuple[str, str] = PAIR,
    source_config: dict[str, str | int] | None = None,
    target_config: dict[str, str | int] | None = None,
    **changes: Any,
) -> World:
    source = start_server(pair[0], config=SOURCE_CONFIG | (source_config or {}))
    target = start_server(pair[1], config=target_config)
    await filled(source, KEYS, seed=6)
    return World(source, target, make_settings(source.endpoint, target.endpoint, **changes))


@asynccontextmanager
async def following(world: World) -> AsyncIterator[tuple[Run, Writing]]:
    """A task in the middle of the stream of a writing source. At the end nothing of it is left."""
    before = asyncio.all_tasks()
    async with running(world.settings) as run, writing(world.source.endpoint, rate=RATE) as load:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await load.has_written(500)
        await run.reaches(lambda: not owes_corrections(run), "no expiry is to be corrected")
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


def fill_beyond_the_socket_buffers(source: RunningServer) -> None:
    """Values that cannot be compressed, more than the system keeps for a connection that is not read."""
    with source.client(db=3) as client:
        for number in range(24):
            client.set(f"big:{number}", os.urandom(MIB))


@contextmanager
def stopped(server: RunningServer) -> Iterator[None]:
    """The process stands still."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def events(logs: list[Any], name: str) -> list[Any]:
    return [it for it in logs if it["event"] == name]


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("pair", PAIRS, ids=["-to-".join(it) for it in PAIRS])
async def test_a_connection_killed_in_mid_stream_comes_back_by_partial_resync(
    pair: tuple[str, str], side: str, start_server: StartServer
) -> None:
    world = await make_world(start_server, pair=pair)
    async with following(world) as (run, load):
        if side == "source":
            kill_replica(world.source)
        else:
            kill_target_link(world.target)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)
        await run.reaches(lambda: not owes_corrections(run), "no expiry is to be corrected")

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=1, partial=1, reconnects=1)
    assert run.states.count(TaskState.RECOVERING) == 1
    assert run.task.status().errors == 1


async def test_connections_killed_again_and_again_lose_and_double_nothing(world: World) -> None:
    async with following(world) as (run, load):
        for number in range(1, 7):
            if number % 2:
                kill_replica(world.source)
            else:
                kill_target_link(world.target)
            await run.reaches(
                lambda number=number: (
                    ways_of(run).partial == number and run.task.state is TaskState.STREAM
                ),
                f"partial resync {number}",
            )
            await load.has_written(200)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=1, partial=6, reconnects=6)


@pytest.mark.parametrize("side", ["source", "target"])
async def test_the_loss_of_an_idle_connection_is_noticed_at_once(side: str, world: World) -> None:
    async with running(world.settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await run.reaches(lambda: run.task.status().lag_bytes == 0, "nothing to do")

        if side == "source":
            kill_replica(world.source)
        else:
            kill_target_link(world.target)
        began = time.monotonic()
        await is_back(run)
        assert time.monotonic() - began < PROMPT_SECONDS
        with world.source.client() as client:
            client.incr("afterwards")
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=1, partial=1, reconnects=1)


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_connection_killed_during_the_snapshot_leads_to_a_second_one(
    side: str, start_server: StartServer
) -> None:
    world = await make_world(
        start_server,
        spool=SpoolSettings(memory_bytes=256 * 1024),
        bandwidth_limit_bytes_per_second=MIB,
    )
    await asyncio.to_thread(fill_beyond_the_socket_buffers, world.source)
    # Keys deleted between two snapshots would stay: this load counts and deletes nothing.
    async with running(world.settings) as run, counting(world.source) as load:
        await run.reaches(lambda: run.task.status().keys_applied, "keys are applied")
        if side == "source":
            kill_replica(world.source)
        else:
            kill_target_link(world.target)
        assert run.task.state is TaskState.SNAPSHOT
        # What the sockets hold comes first; only then the end of the source's connection shows.
        run.task.set_bandwidth_limit(None)
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=2, partial=0, reconnects=1)
    assert run.task.status().keys_applied >= KEYS


async def sync(world: World, *options: str) -> asyncio.subprocess.Process:
    """`redis-ferry sync` as a process of its own, with its progress on stdout."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(*COMMAND, "sync", world.source.url, world.target.url, "--progress=json", *options),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def last_status(child: asyncio.subprocess.Process) -> dict[str, Any]:
    """The last progress object of a run that ends by itself."""
    try:
        async with asyncio.timeout(30):
            stdout, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()
    assert child.returncode == 0
    return dict(json.loads(stdout.splitlines()[-1]))


async def test_a_worker_killed_in_mid_stream_goes_on_exactly_there(world: World) -> None:
    async with writing(world.source.endpoint, rate=RATE) as load:
        killed = await sync(world, "--task-id=t1")
        assert killed.stdout is not None
        async for line in killed.stdout:
            status = json.loads(line)
            if status["phase"] == "stream" and status["commands_applied"] > 1000:
                break
        killed.kill()
        await killed.communicate()
        await load.has_written(500)

        under_load = await last_status(await sync(world, "--task-id=t1", "--exit-when-synced"))
        await load.stop()
    at_rest = await last_status(await sync(world, "--task-id=t1", "--exit-when-synced"))

    assert await world.is_equal_and_clean()
    for status in (under_load, at_rest):
        assert (status["full_resyncs"], status["partial_resyncs"]) == (0, 1)
        assert status["reconnects"] == status["errors"] == 0


async def test_a_target_that_dies_and_comes_back_with_its_data_goes_on(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, target_config=AOF)
    async with following(world) as (run, load):
        world.target.kill()
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
        await load.has_written(500)
        await asyncio.to_thread(world.target.start)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == replace(ways_of(run), full=1, partial=1)
    assert run.task.status().reconnects >= 1


async def test_a_source_that_comes_back_with_a_new_history_is_taken_as_a_whole(
    start_server: StartServer,
) -> None:
    # An AOF keeps the data and not the replication id.
    world = await make_world(start_server, source_config=AOF)
    with capture_logs() as logs:
        async with following(world) as (run, load):
            await load.stop()
            await world.is_caught_up(run)
            world.source.kill()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
            await asyncio.to_thread(world.source.start)
            await is_back(run)
            with world.source.client() as client:
                client.incr("afterwards")
            await world.is_caught_up(run)
            await run.reaches(lambda: run.task.status().lag_bytes == 0, "no lag")

    assert await world.is_equal_and_clean()
    assert ways_of(run) == replace(ways_of(run), full=2, partial=0)
    first, second = events(logs, "psync.full_resync")
    assert first["log_level"] == "info"
    assert second["log_level"] == "warning"
    assert second["asked"] != second["source_has"]


async def test_a_backlog_that_is_too_small_leads_to_a_full_resync_and_a_warning(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, source_config={"repl-backlog-size": "16kb"})

    def write_more_than_the_backlog(state: TaskState) -> None:
        if state is TaskState.RECOVERING:
            with world.source.client() as client:
                for number in range(64):
                    client.append("big", bytes([number]) * 1024)

    with capture_logs() as logs:
        async with running(world.settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            run.task.on_state_change(write_more_than_the_backlog)
            kill_replica(world.source)
            await is_back(run)
            await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert ways_of(run) == Ways(full=2, partial=0, reconnects=1)
    assert [it["log_level"] for it in events(logs, "psync.full_resync")] == ["info", "warning"]


@pytest.mark.parametrize("side", ["source", "target"])
async def test_in_manual_mode_it_ends_with_the_reason_and_a_second_run_goes_on(
    side: str, start_server: StartServer
) -> None:
    world = await make_world(start_server, resume_mode=ResumeMode.MANUAL)
    async with following(world) as (run, load):
        if side == "source":
            kill_replica(world.source)
        else:
            kill_target_link(world.target)
        with pytest.raises((SourceLinkLost, TargetLinkLost), match=f"the {side} .* was lost"):
            await asyncio.wait_for(asyncio.shield(run.future), PROMPT_SECONDS)
        assert run.task.state is TaskState.FAILED
        assert run.task.status().error is not None
        assert ways_of(run) == Ways(full=1, partial=0, reconnects=0)

        async with running(world.settings) as second:
            await second.reaches(lambda: second.task.state is TaskState.STREAM, "the stream phase")
            await load.has_written(500)
            await load.stop()
            await world.is_caught_up(second)

    assert await world.is_equal_and_clean()
    assert ways_of(second) == Ways(full=0, partial=1, reconnects=0)


async def test_a_source_that_hangs_is_given_up_after_the_silence_timeout(
    start_server: StartServer,
) -> None:
    world = await make_world(
        start_server,
        source_link=SourceSettings(
            connect_timeout_seconds=2, handshake_timeout_seconds=2, silence_timeout_seconds=2
        ),
    )
    async with following(world) as (run, load):
        with stopped(world.source):
            began = time.monotonic()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the silence is noticed")
            noticed_after = time.monotonic() - began
            assert "the source sent nothing for" in str(run.task.status().error)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert 1.5 < noticed_after < 2 + PROMPT_SECONDS
    assert ways_of(run) == replace(ways_of(run), full=1, partial=1)


async def test_a_target_that_hangs_is_given_up_after_the_reply_timeout(
    start_server: StartServer,
) -> None:
    world = await make_world(
        start_server,
        target_link=TargetSettings(connect_timeout_seconds=2, reply_timeout_seconds=2),
    )
    async with following(world) as (run, load):
        with stopped(world.target):
            began = time.monotonic()
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "the silence is noticed")
            noticed_after = time.monotonic() - began
            assert "sent no reply for" in str(run.task.status().error)
        await is_back(run)
        await load.has_written(500)
        await load.stop()
        await world.is_caught_up(run)

    assert await world.is_equal_and_clean()
    assert 1.5 < noticed_after < 2 + PROMPT_SECONDS
    assert ways_of(run) == replace(ways_of(run), full=1, partial=1)
