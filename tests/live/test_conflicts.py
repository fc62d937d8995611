"""`skip` and `fail` when a snapshot is taken twice: the task's own keys are none that the target had."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from engine.endpoint import Endpoint
from engine.errors import TargetRefused
from engine.settings import ConflictPolicy, SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.running_task import MIB, make_settings, migrate, running
from tests.live.sides import compared, offset_of
from tests.live.world import SOURCE_CONFIG, kill_target_link

pytestmark = pytest.mark.live

POLICIES = pytest.mark.parametrize("policy", [ConflictPolicy.SKIP, ConflictPolicy.FAIL])
KEYS = 400


@POLICIES
async def test_a_snapshot_that_was_cut_is_taken_again_over_its_own_keys(
    policy: ConflictPolicy, start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    with source.client() as client, target.client() as other:
        for number in range(KEYS):
            client.set(f"key:{number}", os.urandom(4096))  # no compression: the limit binds
        other.set("of the target", "1")
    settings = make_settings(
        source.endpoint,
        target.endpoint,
        on_conflict=policy,
        bandwidth_limit_bytes_per_second=MIB // 4,
        spool=SpoolSettings(memory_bytes=MIB, directory=tmp_path),
    )

    async with running(settings) as run:
        await run.reaches(lambda: run.task.status().keys_applied > 50, "some keys are applied")
        kill_target_link(target)
        assert run.task.state is TaskState.SNAPSHOT
        with source.client() as client:
            for number in range(0, KEYS, 2):
                client.set(f"key:{number}", "changed")
            for number in range(1, KEYS, 4):
                client.delete(f"key:{number}")
        run.task.set_bandwidth_limit(None)
        await run.reaches(lambda: TaskState.RECOVERING in run.states, "the loss is noticed")
        await run.reaches_offset(offset_of(source))
        status = run.task.status()

    with target.client() as other:
        assert other.get("of the target") == b"1"
        other.delete("of the target")
    found = await compared(source, target)
    assert found.is_equal, found
    assert (status.full_resyncs, status.keys_skipped) == (2, 0)
    assert status.leftovers_removed > 50


async def test_skip_keeps_the_targets_own_keys_through_a_second_full_resync(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    with source.client() as client, target.client() as other:
        client.mset({"both": "source", "count": 1, "goes": 1})
        other.mset({"both": "target", "only": 1})
    settings = make_settings(
        source.endpoint,
        target.endpoint,
        on_conflict=ConflictPolicy.SKIP,
        spool=SpoolSettings(directory=tmp_path),
    )
    async with running(settings) as run:
        await run.reaches_offset(offset_of(source))
        assert run.task.status().keys_skipped == 1
    with source.client() as client:  # another history, so the next run has to begin anew
        client.config_set("repl-backlog-size", 16 * 1024)
        client.set("count", 2)
        client.delete("goes")
        client.set("big", "x" * 200_000)

    async with running(settings) as run:
        await run.reaches_offset(offset_of(source))
        status = run.task.status()

    assert (status.full_resyncs, status.keys_skipped) == (1, 1)
    with target.client() as other:
        assert other.mget("both", "only", "count", "goes") == [b"target", b"1", b"2", None]


async def test_without_the_list_of_its_keys_a_second_snapshot_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    with source.client() as client:
        client.set("key", 1)
    for folder in ("here", "elsewhere"):
        settings = make_settings(
            source.endpoint,
            target.endpoint,
            on_conflict=ConflictPolicy.SKIP,
            spool=SpoolSettings(directory=tmp_path / folder),
        )
        if folder == "here":
            async with running(settings) as run:
                await run.reaches_offset(offset_of(source))
            with source.client() as client:
                client.config_set("repl-backlog-size", 16 * 1024)
                client.set("big", "x" * 200_000)
        else:
            with pytest.raises(TargetRefused, match="earlier attempt of this task"):
                await migrate(settings)


async def test_source_and_target_that_are_one_are_refused_before_anything_is_written(
    start_server: StartServer,
) -> None:
    server, replica = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    with server.client() as client, replica.client() as other:
        client.set("n", 1)
        other.replicaof("127.0.0.1", server.port)
    unix = Endpoint(unix_path=server.unix_path)

    with pytest.raises(TargetRefused, match="the source itself under another name"):
        await migrate(make_settings(unix, server.endpoint))
    async with asyncio.timeout(10):
        while True:
            with replica.client() as other:
                if other.info("replication")["master_link_status"] == "up":
                    break
            await asyncio.sleep(0.01)
    with pytest.raises(TargetRefused, match="same replication group"):
        await migrate(make_settings(replica.endpoint, server.endpoint))

    with server.client() as client:
        assert client.keys("*") == [b"n"]
