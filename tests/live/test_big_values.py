"""Values over the threshold are built on the target under another name, and only seen when they are whole."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from engine.codec.part_names import PART_PREFIX
from engine.demo.servers import RunningServer
from engine.errors import TargetRejected, UnsupportedByTarget
from engine.selection import Selection
from engine.settings import ConflictPolicy, Method, SpoolSettings, UnsupportedPolicy
from engine.supervision.states import TaskState
from tests.fix_servers import SERVER_NAMES, StartServer
from tests.live.running_task import MIB, make_settings, migrate, running
from tests.live.sides import compared, has_field_ttls, keys_of_ours, offset_of
from tests.live.world import SOURCE_CONFIG, kill_replica, kill_target_link

pytestmark = pytest.mark.live

THRESHOLD = 256 * 1024
KINDS = ("list", "set", "zset", "hash", "string", "packed string", "stream")


def fill_big(server: RunningServer, size_bytes: int = 2 * MIB, seed: int = 1) -> None:
    """A value of each kind, some of them in another database, with and without an expiry."""
    rng = random.Random(seed)
    item = 100
    count = size_bytes // item

    def text() -> bytes:
        return rng.randbytes(item)

    with server.client(0) as client, server.client(3) as other:
        pipe = client.pipeline(transaction=False)
        for at in range(0, count, 500):
            some = [text() for _ in range(min(500, count - at))]
            pipe.rpush("list", *some)
            pipe.sadd("set", *some)
            pipe.zadd("zset", {it: rng.random() for it in some})
            pipe.hset("hash", mapping={it: number for number, it in enumerate(some)})
            for number, it in enumerate(some):
                pipe.xadd("stream", {"a": it, "b": number}, id=f"{at + number + 1}-1")
        pipe.set("string", rng.randbytes(size_bytes))
        pieces = [rng.randbytes(24) + b"a lot of text" * 4 for _ in range(size_bytes // 76)]
        pipe.set("packed string", b"".join(pieces))
        pipe.execute()
        client.xgroup_create("stream", "readers", id="0")
        client.xreadgroup("readers", "one", {"stream": ">"}, count=3000)
        client.xreadgroup("readers", "two", {"stream": ">"}, count=100)
        client.xack("stream", "readers", *[f"{number}-1" for number in range(1, 500, 2)])
        client.xdel("stream", "700-1", "701-1", f"{count}-1")
        client.pexpire("hash", 3_600_000)
        client.set("small", "1")
        other.rpush("list of 3", *[text() for _ in range(size_bytes // item)])
        other.set("string", rng.randbytes(size_bytes), px=7_200_000)
        if has_field_ttls(server):
            other.hset("fields", mapping={f"{number}": text() for number in range(count)})
            for at in range(0, count, 400):
                names = [str(number) for number in range(at, min(at + 200, count))]
                other.execute_command(
                    "HPEXPIRE", "fields", 3_600_000 + at, "FIELDS", len(names), *names
                )


def groups_of(server: RunningServer) -> Any:
    with server.client() as client:
        facts = client.xinfo_stream("stream", full=True)
        return [
            (
                it["name"],
                it["last-delivered-id"],
                it["pel-count"],
                [(c["name"], c["pel-count"]) for c in it["consumers"]],
            )
            for it in facts["groups"]
        ], facts["last-generated-id"]


def parts_on(target: RunningServer) -> list[tuple[int, bytes]]:
    return [it for it in keys_of_ours(target) if it[1].startswith(PART_PREFIX)]


def settings_of(source: RunningServer, target: RunningServer, folder: Path, **changes: Any) -> Any:
    return make_settings(
        source.endpoint,
        target.endpoint,
        **{
            "big_value_bytes": THRESHOLD,
            "spool": SpoolSettings(memory_bytes=8 * MIB, directory=folder),
            **changes,
        },
    )


async def are_equal(source: RunningServer, target: RunningServer) -> None:
    found = await compared(source, target)
    assert found.is_equal, str(found)
    assert groups_of(source) == groups_of(target)
    assert parts_on(target) == []


@pytest.mark.parametrize("name", SERVER_NAMES)
@pytest.mark.parametrize("is_diskless", [True, False], ids=["diskless", "disk"])
async def test_big_values_arrive_whole(
    name: str, is_diskless: bool, start_server: StartServer, tmp_path: Path
) -> None:
    config = SOURCE_CONFIG | {"repl-diskless-sync": "yes" if is_diskless else "no"}
    source, target = start_server(name, config=config), start_server(name)
    await asyncio.to_thread(fill_big, source)

    async with running(settings_of(source, target, tmp_path)) as run:
        await run.reaches_offset(offset_of(source))
        status = run.task.status()

    await are_equal(source, target)
    assert status.big_values == len(KINDS) + 2 + has_field_ttls(source)
    assert status.keys_applied == status.big_values + 1


async def test_a_link_to_the_target_that_breaks_in_a_value_costs_what_was_on_its_way(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source)
    settings = settings_of(source, target, tmp_path, bandwidth_limit_bytes_per_second=4 * MIB)

    broken = 0
    async with running(settings) as run:
        while run.task.status().big_values < 6:
            before = run.task.status().big_values
            await run.reaches(
                lambda: parts_on(target) or run.task.status().big_values > 6, "a value is built"
            )
            if run.task.state is not TaskState.SNAPSHOT:
                break
            kill_target_link(target)
            broken += 1
            await run.reaches(lambda n=broken: run.task.status().reconnects >= n, "it is back")
            await run.reaches(
                lambda n=before: run.task.status().big_values > n, "the next value is whole"
            )
        run.task.set_bandwidth_limit(None)
        await run.reaches_offset(offset_of(source))
        status = run.task.status()

    await are_equal(source, target)
    assert broken >= 3
    assert (status.full_resyncs, status.target_reconnects) == (1, broken)


async def test_a_transfer_that_is_cut_in_a_value_leaves_none_behind(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source, 8 * MIB)
    settings = settings_of(
        source,
        target,
        tmp_path,
        bandwidth_limit_bytes_per_second=4 * MIB,
        spool=SpoolSettings(memory_bytes=MIB, disk_bytes=0, directory=tmp_path),
    )

    async with running(settings) as run:
        await run.reaches(lambda: parts_on(target), "a value is built")
        kill_replica(source)
        with source.client() as client:
            client.delete("list", "set", "zset", "hash", "string", "packed string")
        with source.client(3) as client:
            client.delete("list of 3", "string", "fields")
        run.task.set_bandwidth_limit(None)
        await run.reaches(lambda: run.task.status().full_resyncs == 2, "another snapshot")
        await run.reaches_offset(offset_of(source))

    await are_equal(source, target)


async def test_a_target_that_starts_anew_in_a_value_gets_the_snapshot_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    target = start_server("redis-8.2", config={"appendonly": "yes", "appendfsync": "always"})
    await asyncio.to_thread(fill_big, source)
    settings = settings_of(source, target, tmp_path, bandwidth_limit_bytes_per_second=2 * MIB)

    async with running(settings) as run:
        await run.reaches(lambda: parts_on(target), "a value is built")
        target.kill()
        target.start()
        assert parts_on(target)  # it was kept, and is removed by the next stay
        run.task.set_bandwidth_limit(None)
        await run.reaches(lambda: run.task.status().full_resyncs == 2, "another snapshot")
        await run.reaches_offset(offset_of(source))

    await are_equal(source, target)


async def test_a_target_that_refuses_writes_in_a_stream_gets_the_snapshot_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    """An entry that was refused cannot be added behind a later one."""
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source)
    with source.client() as client, source.client(3) as other:
        client.delete("list", "set", "zset", "hash", "string", "packed string")
        other.flushdb()
    settings = settings_of(source, target, tmp_path, bandwidth_limit_bytes_per_second=MIB)

    async with running(settings) as run:
        await run.reaches(lambda: parts_on(target), "the stream is built")
        with target.client() as client:
            client.config_set("maxmemory", 1)
            await run.reaches(lambda: TaskState.RECOVERING in run.states, "it is refused")
            client.config_set("maxmemory", 0)
        run.task.set_bandwidth_limit(None)
        await run.reaches_offset(offset_of(source))
        status = run.task.status()

    await are_equal(source, target)
    assert (status.full_resyncs, status.retries["TargetNotReady"] > 0) == (2, True)


async def test_a_stop_in_a_value_removes_it(start_server: StartServer, tmp_path: Path) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source)
    settings = settings_of(source, target, tmp_path, bandwidth_limit_bytes_per_second=MIB)

    async with running(settings) as run:
        await run.reaches(lambda: parts_on(target), "a value is built")

    assert parts_on(target) == []


@pytest.mark.parametrize("policy", [ConflictPolicy.SKIP, ConflictPolicy.FAIL])
async def test_a_key_of_the_target_is_kept(
    policy: ConflictPolicy, start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source)
    with target.client() as client:
        client.set("zset", "of the target")
    settings = settings_of(source, target, tmp_path, on_conflict=policy, method=Method.FULL)

    if policy is ConflictPolicy.FAIL:
        with pytest.raises(TargetRejected, match="zset") as caught:
            await migrate(settings)
        assert caught.value.key == b"zset"
        assert "BUSYKEY" in caught.value.reply
    else:
        task = await migrate(settings)
        assert task.status().keys_skipped == 1
        assert task.status().big_values == len(KINDS) + 2

    with target.client() as client:
        assert client.get("zset") == b"of the target"
        client.delete("zset")
    assert parts_on(target) == []
    if policy is ConflictPolicy.SKIP:
        with source.client() as client:
            client.delete("zset")
        await are_equal(source, target)


async def test_what_the_target_cannot_take_is_left_out_by_name(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    target = start_server("redis-8.2", config={"proto-max-bulk-len": "1mb"})
    await asyncio.to_thread(fill_big, source)
    with source.client() as client:
        client.rpush("list", "x" * (2 * MIB), "behind it")

    with pytest.raises(UnsupportedByTarget, match="at most"):
        await migrate(settings_of(source, target, tmp_path, method=Method.FULL))
    settings = settings_of(
        source,
        target,
        tmp_path / "again",
        method=Method.FULL,
        on_unsupported=UnsupportedPolicy.SKIP,
        task_id="t2",
    )
    task = await migrate(settings)

    status = task.status()
    assert (status.refused, status.big_values) == (4, len(KINDS) + 2 + 1 - 4)
    with source.client() as client, source.client(3) as other:
        assert client.delete("string", "packed string", "list") == 3
        assert other.delete("string") == 1
    assert [it for it in keys_of_ours(target) if it[1].startswith(PART_PREFIX)] == []
    await are_equal(source, target)


async def test_big_values_are_renamed_mapped_and_left_out(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source)
    selection = Selection(exclude_keys=(b"z*", b"fields"), db_map=((3, 5),), prefix_add=b"new:")
    settings = settings_of(source, target, tmp_path, selection=selection)

    async with running(settings) as run:
        await run.reaches_offset(offset_of(source))
        status = run.task.status()

    assert (status.keys_filtered, status.big_values) == (2, len(KINDS) + 1)
    with source.client() as one, target.client() as other:
        for key in one.scan_iter():
            if key != b"zset":
                assert one.type(key) == other.type(b"new:" + key)
        assert one.lrange("list", 0, -1) == other.lrange("new:list", 0, -1)
        assert one.hgetall("hash") == other.hgetall("new:hash")
        assert one.pexpiretime("hash") == other.pexpiretime("new:hash")
        assert other.exists("new:zset", "zset") == 0
    with source.client(3) as one, target.client(5) as other:
        assert sorted(other.keys()) == [b"new:list of 3", b"new:string"]
        assert one.get("string") == other.get("new:string")
    assert parts_on(target) == []
