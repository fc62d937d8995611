"""The worker is killed in the middle of a big value, held to a ceiling of memory, and pointed at a cluster."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from engine.checkpoint.catalog import remove_of_task
from engine.control_client import control_client
from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.settings import SpoolSettings
from tests.conditions import until
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.running_task import MIB, make_settings, running
from tests.live.sides import offset_of
from tests.live.test_big_values import are_equal, fill_big, parts_on
from tests.live.world import SOURCE_CONFIG
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]

CEILING_BYTES = 256 * MIB


def url_of(server: RunningServer) -> str:
    return f"redis://{server.endpoint.address}"


async def test_a_worker_killed_in_a_value_leaves_none_behind(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2", config=SOURCE_CONFIG), start_server("redis-8.2")
    await asyncio.to_thread(fill_big, source, 4 * MIB)
    slow = ("--bandwidth-limit-mb=2", "--big-value-mb=1")
    with Worker(url_of(source), url_of(target), tmp_path, *slow) as worker:
        for _ in range(2):
            worker.start()
            await until(lambda: parts_on(target), "a value is built")
            worker.kill()
            assert parts_on(target)
        client = control_client(target.endpoint, timeout_seconds=5)
        try:
            removed = await remove_of_task(client, "t1")
        finally:
            await client.aclose()
        assert parts_on(target) == []
        assert len(removed) == 2  # the checkpoint and the value
        worker.start()
        await until(lambda: parts_on(target), "a value is built")
        worker.kill()
    with Worker(url_of(source), url_of(target), tmp_path, "--big-value-mb=1") as worker:
        worker.start()
        await asyncio.to_thread(worker.applies, offset_of(source))
        await until(lambda: not worker.status["expiries_owed"], "all expiries are exact")
        assert worker.status["big_values"] >= 9
        assert worker.stop() in {0, 130}
    await are_equal(source, target)


async def test_big_values_into_a_cluster(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    await asyncio.to_thread(fill_big, source)
    with source.client(3) as client:
        client.flushdb()
    with RunningCluster(BINARIES["redis-8.2"], replicas=0) as target:
        settings = make_settings(
            source.endpoint,
            parse_endpoint(target.url, role="target"),
            big_value_bytes=256 * 1024,
            spool=SpoolSettings(memory_bytes=8 * MIB, directory=tmp_path),
        )
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
            assert run.task.status().big_values == 7
        assert await asyncio.to_thread(differences, source, target) == []
        names = [
            key
            for it in target.primaries()
            for key in it.server.client().keys("redis-ferry:part:*")
        ]
        assert names == []


def fill_large(server: RunningServer, string_mib: int, fields: int, entries: int) -> None:
    rng = random.Random(1)
    with server.client() as client:
        client.config_set("proto-max-bulk-len", "2gb")
        for at in range(string_mib):
            client.setrange("string", at * MIB, rng.randbytes(MIB))
        pipe = client.pipeline(transaction=False)
        for at in range(0, fields, 1000):
            some = range(at, min(at + 1000, fields))
            pipe.hset("hash", mapping={f"field:{it:012}": f"value {it}" for it in some})
            if at % 100_000 == 0:
                pipe.execute()
        for at in range(entries):
            pipe.xadd("stream", {"n": at, "text": "some text"}, id=f"{at + 1}-0")
            if at % 10_000 == 0:
                pipe.execute()
        pipe.execute()
        client.xgroup_create("stream", "group", id="0")
        for _ in range(min(entries, 100_000) // 1000):
            client.xreadgroup("group", "consumer", {"stream": ">"}, count=1000)


LARGE = {
    "short": (300, 200_000, 20_000),
    "long": (1024, 20_000_000, 5_000_000),
}


@pytest.mark.parametrize("way", ["diskless", "disk", "file"])
@pytest.mark.parametrize(
    "size",
    [
        "short",
        pytest.param("long", marks=[pytest.mark.slow, pytest.mark.timeout(3000)]),
    ],
)
def test_memory_stays_under_its_ceiling(
    way: str, size: str, start_server: StartServer, tmp_path: Path
) -> None:
    """prlimit holds the worker's private memory below what the value would take."""
    config = SOURCE_CONFIG | {"repl-diskless-sync": "no" if way == "disk" else "yes", "save": ""}
    source = start_server("redis-8.2", config=config)
    target = start_server("redis-8.2", config={"proto-max-bulk-len": "2gb", "save": ""})
    fill_large(source, *LARGE[size])
    url = url_of(source)
    if way == "file":
        with source.client() as client:
            client.save()
        url = f"file:{source.directory}/dump.rdb"
    began = time.monotonic()
    ceiling = ("prlimit", f"--data={CEILING_BYTES + 32 * MIB}")
    options = ("--method=full",) if way == "file" else ()
    peak = 0
    with Worker(url, url_of(target), tmp_path, *options, wrapper=ceiling) as worker:
        worker.start()
        worker.wait_for(lambda it: it["keys_applied"] >= 3, "all keys", deadline_seconds=2900)
        peak = worker.peak_rss_bytes if worker.is_running else 0
    seconds = time.monotonic() - began
    print(f"{size} {way}: {peak / MIB:.0f} MiB, {seconds:.0f} s")

    assert peak < CEILING_BYTES
    with source.client() as one, target.client() as other:
        for ask in (
            lambda it: it.strlen("string"),
            lambda it: it.getrange("string", 250 * MIB, 250 * MIB + 100_000),
            lambda it: it.hlen("hash"),
            lambda it: it.hget("hash", "field:000000123456"),
            lambda it: it.xinfo_stream("stream")["length"],
            lambda it: it.xpending("stream", "group"),
        ):
            assert ask(one) == ask(other)
        assert other.keys("redis-ferry:part:*") == []
