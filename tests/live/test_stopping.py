"""A graceful stop anywhere, and the same command again."""

from __future__ import annotations

import random

import pytest

from engine.settings import SpoolSettings, TargetSettings
from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import CONFIG, compared, filled, keys_of_ours, offset_of
from tests.live.workload import writing

pytestmark = pytest.mark.live

MIB = 1024 * 1024
PAIR = "redis-6.2", "valkey-9.1"


async def test_a_stop_in_the_snapshot_leaves_nothing_to_resume_and_the_next_run_starts_anew(
    start_server: StartServer,
) -> None:
    source, target = (start_server(name, config=CONFIG) for name in PAIR)
    await filled(source, 20_000, seed=1)
    settings = make_settings(
        source.endpoint, target.endpoint, bandwidth_limit_bytes_per_second=2 * MIB
    )

    async with running(settings) as run:
        await run.reaches(lambda: run.task.status().keys_applied > 2000, "some keys are applied")
        await run.stop()
    stopped = run.task.status()

    assert run.task.state is TaskState.STOPPED
    assert TaskState.STREAM not in run.states
    assert stopped.phase == "snapshot"
    assert 2000 < stopped.keys_applied < 20_000
    assert 0 < stopped.full_migration_progress < 100
    with target.client() as client:
        assert client.hget(keys_of_ours(target)[0][1], "phase") == b"snapshot"

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(offset_of(source))
    assert (run.task.status().full_resyncs, run.task.status().partial_resyncs) == (1, 0)
    assert (await compared(source, target)).is_equal


async def test_stops_in_the_stream_under_load_lose_and_repeat_nothing(
    start_server: StartServer,
) -> None:
    source, target = (start_server(name, config=CONFIG) for name in ("valkey-8.1", "valkey-9.1"))
    await filled(source, 500, seed=2)
    # Small windows, so that a stop finds something on its way everywhere.
    settings = {
        "spool": SpoolSettings(memory_bytes=64 * 1024),
        "target_link": TargetSettings(block_bytes=1024, inflight_bytes=16 * 1024),
    }
    rng = random.Random(3)

    partial_resyncs = 0
    async with writing(source.endpoint, rate=4000, seed=8) as writer:
        for _ in range(8):
            async with running(make_settings(source.endpoint, target.endpoint, **settings)) as run:
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
                await writer.has_written(rng.randrange(50, 800))
                await run.stop()
            partial_resyncs += run.task.status().partial_resyncs
        await writer.stop()
        async with running(make_settings(source.endpoint, target.endpoint, **settings)) as run:
            await run.reaches_offset(offset_of(source))
            await run.reaches(lambda: run.task.status().lag_bytes == 0, "no lag")
            found = await compared(source, target)

    assert found.is_equal, found
    assert partial_resyncs == 7


async def test_a_stop_before_the_start_does_nothing(start_server: StartServer) -> None:
    source, target = (start_server(name) for name in PAIR)

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        run.task.request_stop()
        await run.future

    assert run.states == [TaskState.STOPPED]
    assert not run.task.wrote_to_target


async def test_history_lost_at_the_source_means_a_full_resync(start_server: StartServer) -> None:
    source, target = (start_server(name, config=CONFIG) for name in PAIR)
    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
    with source.client() as client:
        client.config_set("repl-backlog-size", 16 * 1024)
        for number in range(100):
            client.set(f"big:{number}", "x" * 4096)

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(offset_of(source))

    assert (run.task.status().full_resyncs, run.task.status().partial_resyncs) == (1, 0)
    assert (await compared(source, target)).is_equal


async def test_two_tasks_with_other_names_have_checkpoints_of_their_own(
    start_server: StartServer,
) -> None:
    source, target = (start_server(name, config=CONFIG) for name in PAIR)

    for name in ("a", "b", "a", "b"):
        async with running(make_settings(source.endpoint, target.endpoint, task_id=name)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")

    assert run.task.status().resumed
    assert {key for _, key in keys_of_ours(target)} == {
        b"redis-ferry:checkpoint:{a}:0",
        b"redis-ferry:checkpoint:{b}:0",
    }
