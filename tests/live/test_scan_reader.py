"""A source that refuses PSYNC is read by SCAN and DUMP, with keyspace notifications or repeated passes for changes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from engine.demo.compare import compare
from engine.demo.servers import RunningServer
from engine.demo.writer import Workload
from engine.endpoint import Endpoint
from engine.errors import TargetRefused
from engine.preflight.permissions import SCAN_RULES
from engine.service.reader_choice import choose_reader, make_scan_source, scanned
from engine.settings import ScanChanges, SourceReader, SpoolSettings, TaskSettings
from engine.supervision.states import TaskState
from tests.control.command_line import run as run_command
from tests.faults.worker import Worker
from tests.fix_servers import StartServer
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.sides import compared, filled, keys_of_ours
from tests.live.test_acl import denied, permit
from tests.live.workload import writing

pytestmark = pytest.mark.live

NAMES = ["redis-6.2", "redis-8.2", "valkey-9.1"]
ON = {"notify-keyspace-events": "EA"}
KEYS = 1500


def settings_for(
    source: Endpoint, target: RunningServer, folder: Path, **changes: Any
) -> TaskSettings:
    return make_settings(
        source,
        target.endpoint,
        source_reader=SourceReader.SCAN,
        spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder / "t1"),
        **changes,
    )


@asynccontextmanager
async def scanning(settings: TaskSettings) -> AsyncIterator[Run]:
    """The task with its reader, as `sync --source-reader scan` runs them."""
    reader = make_scan_source(settings)
    try:
        await reader.start()
        async with running(scanned(settings, reader), reader=reader.stats) as run:
            yield run
    finally:
        await reader.close()


async def is_equal(source: RunningServer, target: RunningServer, run: Run) -> None:
    """Once the source is quiet, the target has what it has: within moments, or after the next pass."""

    async def look() -> bool:
        return (await compared(source, target)).is_equal

    for _ in range(300):
        if run.task.status().scan_pending_keys == 0 and await look():
            return
        if run.future.done():
            await run.future
        await asyncio.sleep(0.1)  # until it is
    found = await compared(source, target)
    assert found.is_equal, f"{found}\n{run.task.status()}"


def churn(source: RunningServer) -> None:
    """What the load does not do, once: deletions of all kinds, renames, other databases, expiries."""
    with source.client() as client:
        for name in (
            "del",
            "unlink",
            "rename",
            "move",
            "expire",
            "pxat",
            "persist",
            "copy",
            "emptied",
        ):
            client.set(f"churn:{name}", name)
        client.delete("churn:del")
        client.unlink("churn:unlink")
        client.rename("churn:rename", "churn:renamed")
        client.move("churn:move", 3)
        client.pexpire("churn:expire", 30)
        client.pexpireat("churn:pxat", 4102444800000)
        client.expire("churn:persist", 1000)
        client.persist("churn:persist")
        client.copy("churn:copy", "churn:copied", destination_db=4)
        client.rpush("churn:list", 1)
        client.lpop("churn:list")
        client.set("churn:" + "x" * 20_000, "y" * 300_000)
        client.eval("redis.call('SET', KEYS[1], 1); redis.call('INCR', KEYS[1])", 1, "churn:script")
        client.set("churn:gone-soon", "x", ex=1)


@pytest.mark.parametrize("changes", ["notifications", "passes"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_source_without_psync_is_followed_under_load(
    name: str, changes: str, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(name, config=ON if changes == "notifications" else {})
    target = start_server(name)
    rules = ["on", ">password", *SCAN_RULES]
    settings = settings_for(permit(source, rules), target, tmp_path)
    await filled(source, KEYS, seed=9)

    async with writing(source.endpoint, rate=1500) as load:
        await load.has_written(300)
        async with scanning(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(churn, source)
            await load.has_written(1500)
            await load.stop()
            await is_equal(source, target, run)
            status = run.task.status()

    assert status.scan_changes == changes
    assert status.scan_keys_changed > status.scan_keys_deleted > 0
    assert (status.full_resyncs, status.scan_gaps, status.errors) == (1, 0, 0)
    assert denied(source) == []
    assert len(keys_of_ours(target)) == 1


async def has_gone_on(run: Run, gaps: int, full_resyncs: int) -> None:
    """All keys have been read again, and the stream is there."""

    def is_back() -> bool:
        status = run.task.status()
        return (
            status.scan_gaps >= gaps
            and status.full_resyncs >= full_resyncs
            and run.task.state is TaskState.STREAM
        )

    await run.reaches(is_back, "all keys are read again")


@pytest.mark.parametrize("name", ["redis-6.2", "redis-8.2"])
async def test_what_no_key_notification_tells_is_seen(
    name: str, start_server: StartServer, tmp_path: Path
) -> None:
    """FLUSHDB, SWAPDB and FLUSHALL take keys away and name none."""
    source, target = start_server(name, config=ON), start_server(name)
    await filled(source, KEYS, seed=4)
    async with scanning(settings_for(source.endpoint, target, tmp_path)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        for number, command in enumerate((("FLUSHDB",), ("SWAPDB", 0, 1), ("FLUSHALL",)), start=1):
            with source.client() as client:
                client.execute_command(*command)
                client.set("after", command[0])
            await has_gone_on(run, number, number + 1)
            await is_equal(source, target, run)
        status = run.task.status()
    assert (status.scan_gaps, status.full_resyncs) == (3, 4)
    assert status.leftovers_removed > KEYS / 2


async def test_a_lost_subscription_means_another_pass(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=ON), start_server("redis-8.2")
    await filled(source, KEYS, seed=4)
    async with (
        writing(source.endpoint, rate=1500) as load,
        scanning(settings_for(source.endpoint, target, tmp_path)) as run,
    ):
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        await load.has_written(300)
        with source.client() as client:
            assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            # Nobody listens now: these are told to nobody.
            client.delete(*list(client.scan_iter("user:*", count=1000))[:50])
        await load.has_written(300)
        await load.stop()
        await has_gone_on(run, 1, 2)
        await is_equal(source, target, run)
        status = run.task.status()
    assert (status.scan_gaps, status.full_resyncs, status.source_reconnects) == (1, 2, 1)
    assert status.leftovers_removed >= 1


async def test_a_source_that_goes_and_comes_back_is_read_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-8.2", config={**ON, "appendonly": "yes"})
    target = start_server("redis-8.2")
    await filled(source, KEYS, seed=4)
    async with scanning(settings_for(source.endpoint, target, tmp_path)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        with source.client() as client:
            client.set("last", "words")
            client.execute_command("WAITAOF", 1, 0, 5000)
        source.kill()
        await run.reaches(lambda: run.task.state is TaskState.RECOVERING, "the loss is noticed")
        assert "cannot connect to the source" in await run.reaches(
            lambda: "cannot connect" in (run.task.status().error or "") and run.task.status().error,
            "the reason is shown",
        )
        source.start()
        with source.client() as client:
            client.delete(*list(client.scan_iter(count=1000))[:20])
        await has_gone_on(run, 1, 2)
        await is_equal(source, target, run)


def test_a_killed_worker_reads_all_again_and_removes_what_is_gone(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=ON), start_server("redis-8.2")
    asyncio.run(filled(source, KEYS, seed=4))
    options = ("--source-reader", "scan")
    with target.client() as client:
        client.set("the-target's-own", 1)
    with Worker(source.url, target.url, tmp_path, *options) as worker:
        worker.start().wait_for(lambda it: it["state"] == "stream", "the stream")
        worker.kill()
        with source.client() as client:
            names = list(client.scan_iter(count=1000))[:100]
            client.delete(*names)
            client.rpush("new", 1)
        worker.start().wait_for(
            lambda it: it["state"] == "stream" and it["scan_passes"] == 1, "the stream again"
        )
        assert worker.stop() == 130
        assert worker.totals["full_resyncs"] == 2
        assert worker.totals["leftovers_removed"] == 100
    with target.client() as client:
        assert client.delete("the-target's-own") == 1
    found = compare(source.endpoint, target.endpoint)
    assert found.is_equal, str(found)


@pytest.mark.parametrize("changes", ["notifications", "passes"])
def test_it_ends_when_it_has_what_the_source_had(
    changes: str, start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=ON), start_server("redis-8.2")
    asyncio.run(filled(source, KEYS, seed=4))
    stop = threading.Event()
    workload = Workload(source.endpoint, rate=1000)
    writer = threading.Thread(target=workload.run, args=(stop,))
    writer.start()
    try:
        ended = run_command(
            *("sync", source.url, target.url, "--source-reader", "scan", "--exit-when-synced"),
            *("--scan-changes", changes, "--progress", "json", "--spool-dir", str(tmp_path / "s")),
        )
    finally:
        stop.set()
        writer.join()
    assert ended.returncode == 0, ended.stderr
    last = json.loads(ended.stdout.splitlines()[-1])
    assert (last["phase"], last["source_reader"], last["scan_changes"]) == ("done", "scan", changes)
    assert last["scan_passes"] == (1 if changes == "notifications" else 2)
    assert "scan.reader" in ended.stderr
    assert "no order between keys" in ended.stderr
    # Once more, with a source that is quiet.
    again = run_command(
        *("sync", source.url, target.url, "--source-reader", "scan", "--exit-when-synced"),
        *("--scan-changes", changes, "--spool-dir", str(tmp_path / "s")),
    )
    assert again.returncode == 0, again.stderr
    found = compare(source.endpoint, target.endpoint)
    assert found.is_equal, str(found)


async def test_auto_reads_keys_where_psync_is_refused_and_says_why(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-8.2", config=ON)
    settings = replace(
        settings_for(source.endpoint, source, tmp_path), source_reader=SourceReader.AUTO
    )
    for rules, reason in (
        (["on", ">password", *SCAN_RULES], "the user may not use REPLCONF"),
        (["on", ">password", *SCAN_RULES, "+replconf"], "PSYNC"),
        (["on", ">password", *SCAN_RULES, "+replconf", "+acl"], "the user may not use PSYNC"),
    ):
        denied_one = replace(settings, source=permit(source, ["reset", *rules]))
        with structlog.testing.capture_logs() as logs:
            assert (await choose_reader(denied_one)).source_reader is SourceReader.SCAN
        assert reason in next(it["why"] for it in logs if it["event"] == "reader.scan")
    permitted = permit(source, ["+psync", "+replconf"])
    for endpoint in (permitted, source.endpoint):
        chosen = await choose_reader(replace(settings, source=endpoint))
        assert chosen.source_reader is SourceReader.PSYNC


async def test_notifications_are_switched_on_only_when_asked_for_and_off_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    settings = settings_for(source.endpoint, target, tmp_path)

    def flags() -> str:
        with source.client() as client:
            return client.config_get("notify-keyspace-events")["notify-keyspace-events"]

    async with scanning(settings) as run:
        assert run.task.status().scan_changes == "passes"
        assert flags() == ""
    async with scanning(replace(settings, scan_changes=ScanChanges.ENABLE)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        assert run.task.status().scan_changes == "notifications"
        assert sorted(flags()) == sorted("AE")
        with source.client() as client:
            client.set("a", 1)
        await is_equal(source, target, run)
        # Somebody takes them away: what happens from here on is not told, so all is read again, with them on.
        with source.client() as client:
            client.config_set("notify-keyspace-events", "")
            client.set("b", 2)
        await has_gone_on(run, 1, 2)
        await is_equal(source, target, run)
        assert sorted(flags()) == sorted("AE")
    assert flags() == ""


async def test_passes_go_on_where_notifications_are_switched_off(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=ON), start_server("redis-8.2")
    async with scanning(settings_for(source.endpoint, target, tmp_path)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        assert run.task.status().scan_changes == "notifications"
        with source.client() as client:
            client.config_set("notify-keyspace-events", "Eg")
            client.rpush("list", 1)
        await has_gone_on(run, 1, 2)
        assert run.task.status().scan_changes == "passes"
        with source.client() as client:
            client.rpush("list", 2)
        await is_equal(source, target, run)


async def test_a_target_that_is_the_source_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-8.2", config=ON)

    with pytest.raises(TargetRefused, match="is the source itself under another name"):
        async with scanning(settings_for(source.endpoint, source, tmp_path)) as run:
            await run.future


def test_check_asks_for_what_this_reader_needs(start_server: StartServer) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    urls = {}
    for name, rules in {
        "enough": SCAN_RULES, "no-scan": [*SCAN_RULES, "-scan"], "no-config": [*SCAN_RULES, "-config|get"],
    }.items():  # fmt: skip
        permit(source, ["reset", "on", ">password", *rules])
        url = source.url.replace("://", "://ferry:password@")
        urls[name] = run_command(
            *("check", url, target.url, "--source-reader", "scan", "--sample-seconds", "0")
        )

    assert urls["enough"].returncode == 0, urls["enough"].stdout
    assert "PSYNC" not in urls["enough"].stdout
    assert "has every permission that was looked for" in urls["enough"].stdout
    assert urls["no-scan"].returncode == 3
    assert "+scan" in urls["no-scan"].stdout
    assert urls["no-config"].returncode == 0
    assert "--scan-changes notifications" in urls["no-config"].stdout
