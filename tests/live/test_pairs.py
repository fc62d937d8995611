"""Full and incremental migration, writes going on in both phases, over every pair of servers here."""

from __future__ import annotations

import asyncio
import json

import pytest

from engine.settings import Method
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.control.command_line import run as run_command_line
from tests.fix_servers import PAIRS, StartServer
from tests.live.running_task import make_settings, migrate, running
from tests.live.sides import (
    CONFIG,
    compared,
    digest_of,
    filled,
    has_field_ttls,
    has_functions,
    keys_of_ours,
    offset_of,
)
from tests.live.workload import writing

pytestmark = pytest.mark.live

KEYS = 3000
CHECKPOINT = (0, b"redis-ferry:checkpoint:{t1}:0")
PASSING = "redis-6.2", "redis-8.2"  # for what is not about versions


@pytest.mark.parametrize(("source_name", "target_name"), PAIRS, ids=lambda it: it)
async def test_the_target_equals_the_source_with_writes_in_both_phases(
    source_name: str, target_name: str, start_server: StartServer
) -> None:
    source = start_server(source_name, config=CONFIG)
    target = start_server(target_name, config=CONFIG)
    settings = make_settings(source.endpoint, target.endpoint)
    await filled(source, KEYS, seed=7)
    workload = writing(
        source.endpoint,
        rate=2000,
        seed=11,
        field_ttls=has_field_ttls(source),
        functions=has_functions(source),
        whole_databases=True,
    )

    async with workload as writer:
        await writer.has_written(500)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            await writer.has_written(3000)
            report = await writer.stop()
            await run.reaches_offset(offset_of(source))
            await until(
                lambda: offset_of(source) == run.task.status().applied_offset, "all is applied"
            )
            found = await compared(source, target)
            await run.stop()

    assert found.is_equal, found
    assert found.keys_source > KEYS / 2
    assert report.transactions > 0
    assert report.popped > 0
    status = run.task.status()
    assert (status.full_resyncs, status.partial_resyncs, status.errors) == (1, 0, 0)
    assert status.commands_applied > 2000
    assert keys_of_ours(target) == [CHECKPOINT]
    await check_resume(source, target)
    if source_name == target_name or source.binary.product == target.binary.product == "valkey":
        with target.client() as client:
            client.delete(CHECKPOINT[1])
        # Keys that run out meanwhile are in a digest until they are deleted.
        await until(lambda: digest_of(source) == digest_of(target), "equal DEBUG DIGEST")


async def check_resume(source, target) -> None:
    """The same command again goes on where the first run ended, and says so."""
    with source.client(db=3) as client:
        client.set("written-between", "1")

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches_offset(offset_of(source))
        await run.stop()

    status = run.task.status()
    assert (status.full_resyncs, status.partial_resyncs, status.resumed) == (0, 1, True)
    assert TaskState.SNAPSHOT not in run.states
    with target.client(db=3) as client:
        assert client.get("written-between") == b"1"
    assert keys_of_ours(target) == [CHECKPOINT]


async def test_the_command_line_migrates_until_it_has_what_the_source_had(
    start_server: StartServer,
) -> None:
    source, target = (start_server(name) for name in PASSING)
    await filled(source, KEYS, seed=3)

    async with writing(source.endpoint, rate=500, seed=5) as writer:
        await writer.has_written(100)
        ended = await asyncio.to_thread(
            run_command_line,
            *("sync", source.url, target.url, "--exit-when-synced", "--progress", "json"),
        )
    last = json.loads(ended.stdout.splitlines()[-1])

    assert ended.returncode == 0, ended.stderr
    assert last["phase"] == "done"
    assert last["full_migration_progress"] == 100
    assert last["keys_applied"] >= KEYS
    # What was written after its goal is not there, so a second, quiet run makes both equal.
    again = await asyncio.to_thread(
        run_command_line, "sync", source.url, target.url, "--exit-when-synced", "--progress", "json"
    )
    assert json.loads(again.stdout.splitlines()[-1])["partial_resyncs"] == 1
    found = await compared(source, target)
    assert found.is_equal, found


async def test_exit_when_synced_ends_by_itself_with_everything_of_its_start(
    start_server: StartServer,
) -> None:
    source, target = (start_server(name) for name in PASSING)
    await filled(source, KEYS, seed=4)
    with source.client(db=15) as client:
        client.set("last", "1")

    task = await migrate(make_settings(source.endpoint, target.endpoint, exit_when_synced=True))

    assert task.state is TaskState.DONE
    assert (await compared(source, target)).is_equal


async def test_method_full_leaves_no_checkpoint(start_server: StartServer) -> None:
    source, target = (start_server(name) for name in PASSING)
    await filled(source, KEYS, seed=5)

    task = await migrate(make_settings(source.endpoint, target.endpoint, method=Method.FULL))

    assert task.state is TaskState.DONE
    assert task.status().full_migration_progress == 100
    assert task.status().keys_applied == KEYS
    assert keys_of_ours(target) == []
    assert (await compared(source, target)).is_equal


async def test_an_empty_source_gives_an_empty_target_and_a_checkpoint(
    start_server: StartServer,
) -> None:
    source, target = (start_server(name) for name in PASSING)

    for resumed in (False, True):
        task = await migrate(make_settings(source.endpoint, target.endpoint, exit_when_synced=True))
        assert task.status().resumed is resumed
        assert task.status().full_migration_progress == 100

    assert keys_of_ours(target) == [CHECKPOINT]
    assert (await compared(source, target)).keys_target == 0


async def test_functions_of_the_source_are_loaded_in_the_target(start_server: StartServer) -> None:
    source, target = start_server("redis-8.2", config=CONFIG), start_server("redis-8.2")
    library = "#!lua name=lib\nredis.register_function('%s', function() return 1 end)"
    with source.client() as client:
        client.function_load(library % "before")

        async with running(make_settings(source.endpoint, target.endpoint)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            with target.client() as other:
                assert other.fcall("before", 0) == 1
                client.function_load(library % "after", replace=True)
                await run.reaches_offset(offset_of(source))
                assert other.fcall("after", 0) == 1
