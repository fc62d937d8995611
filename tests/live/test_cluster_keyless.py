"""What has no key, or names its keys in a script, on a cluster: functions, messages, scripts, flushes; with the worker killed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.codec.slots import key_slot
from engine.errors import TargetRejected
from engine.settings import ConflictPolicy
from engine.supervision.states import TaskState
from tests.faults.arena import holds
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.running_task import Run, running
from tests.live.sides import offset_of
from tests.live.test_cross_slot import CONFIG, NAME, settings_to
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
CODE = "#!lua name=lib\nredis.register_function('f', function() return %d end)"
CODES = [CODE % number for number in range(4)]


def code_on_all(target: RunningCluster) -> set[str]:
    """The code of the library, as each primary has it; empty text where it is not there."""
    found = set()
    for node in target.primaries():
        with node.server.client() as client:
            listed = client.execute_command("FUNCTION", "LIST", "WITHCODE")
        codes = [dict(zip(it[::2], it[1::2], strict=True))[b"library_code"] for it in listed]
        found.add(b"".join(codes).decode())
    return found


@contextmanager
def heard(target: RunningCluster, channel: str, command: str = "subscribe") -> Iterator[list[int]]:
    """Numbers that arrive on a channel of the target."""
    messages: list[int] = []
    is_over = threading.Event()
    node = target.primary_of(key_slot(channel.encode())) if command == "ssubscribe" else None
    with (node or target.primaries()[0]).server.client() as client:
        pubsub = client.pubsub()
        getattr(pubsub, command)(channel)

        def listen() -> None:
            while not is_over.is_set():
                get = pubsub.get_sharded_message if node else pubsub.get_message
                message = get(ignore_subscribe_messages=True, timeout=0.05)
                if message is not None and message["type"].endswith("message"):
                    messages.append(int(message["data"]))

        thread = threading.Thread(target=listen, name="subscriber")
        thread.start()
        try:
            yield messages
        finally:
            is_over.set()
            thread.join()
            pubsub.close()


def test_each_once_although_the_worker_is_killed(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0) as target,
        Worker(source.url, target.url, tmp_path) as worker,
        source.client() as client,
        heard(target, "news") as news,
        heard(target, "sharded", "ssubscribe") as sharded,
    ):
        worker.start()
        worker.wait_for(lambda it: it["state"] == "stream", "the stream")
        sent = 0
        for round_ in range(2):
            client.function_load(CODES[0])
            client.execute_command("FUNCTION", "DELETE", "lib")
            client.function_load(CODES[round_])
            for _ in range(300):
                sent += 1
                client.publish("news", sent)
                client.execute_command("SPUBLISH", "sharded", sent)
                client.incr(f"n:{sent % 7}")
            if round_ == 1:
                client.flushall()
                client.mset({f"m:{n}": n for n in range(50)})
            worker.kill()
            client.function_load(CODES[3], replace=True)
            dump = client.execute_command("FUNCTION", "DUMP")
            client.execute_command("FUNCTION", "FLUSH")
            client.execute_command("FUNCTION", "RESTORE", dump)
            worker.start()
            worker.applies(offset_of(source))
            assert code_on_all(target) == {CODES[3]}
            client.execute_command("FUNCTION", "FLUSH")
        worker.applies(offset_of(source))
        assert code_on_all(target) == {""}
        holds(lambda: news[-1:] == [sent] and sharded[-1:] == [sent], "all messages have come")
        assert news == list(range(1, sent + 1))
        assert sharded == list(range(1, sent + 1))
        assert worker.stop() == 130
        assert differences(source, target) == []
        assert worker.totals["full_resyncs"] == 1


@pytest.mark.parametrize("policy", list(ConflictPolicy))
async def test_a_library_of_the_targets_own(
    policy: ConflictPolicy, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        with target.primaries()[1].server.client() as its:
            its.function_load(CODES[0])
        run = Run(settings_to(source, target, tmp_path, on_conflict=policy))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        client.function_load(CODES[1])
        client.set("behind", "it")
        if policy is ConflictPolicy.FAIL:
            with pytest.raises(TargetRejected, match=r"FUNCTION LOAD.*already exists.*remove"):
                await run.future
            assert CODES[0] in code_on_all(target)
            return
        await run.reaches_offset(offset_of(source))
        kept = {CODES[0], CODES[1]} if policy is ConflictPolicy.SKIP else {CODES[1]}
        assert code_on_all(target) == kept
        await run.stop()


@pytest.mark.skipif("redis-6.2" not in BINARIES, reason="no source that replicates scripts")
async def test_scripts_of_an_old_source(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server("redis-6.2", config=CONFIG | {"lua-replicate-commands": "no"})
    script = "for _, key in ipairs(KEYS) do redis.call('INCR', key) end"
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            for n in range(30):
                client.eval(script, 1, f"one:{n}")  # the first as EVAL, others as EVALSHA
            client.eval(script, 3, "a", "b", "c")
            client.incr("b")
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
            assert run.task.status().cross_slot["EVAL"] >= 1
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream again")
            client.eval(script, 1, "after the restart")
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
        run = Run(settings_to(source, target, tmp_path))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        client.eval("redis.call('SET', KEYS[1], 1) redis.call('SET', 'not named', 1)", 1, "x")
        with pytest.raises(TargetRejected, match="does not name"):
            await run.future


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("SWAPDB", 0, 1), "SWAPDB .* is about several databases"),
        (("COPY", "a", "b", "DB", 1), "COPY .* is about several databases"),
        (("MOVE", "a", 1), "MOVE .* is about several databases"),
        (("EVAL", "return redis.call('SET', 'x', 1)", 0), "names no keys"),
    ],
)
async def test_what_a_cluster_cannot_take_is_named(
    command: tuple[str | int, ...], what: str, start_server: StartServer, tmp_path: Path
) -> None:
    is_script = command[0] == "EVAL"
    if is_script and "redis-6.2" not in BINARIES:
        pytest.skip("no source that replicates scripts")
    more = {"lua-replicate-commands": "no"} if is_script else {}
    source = start_server("redis-6.2" if is_script else NAME, config=CONFIG | more)
    with RunningCluster(BINARIES[NAME], replicas=0) as target, source.client() as client:
        client.set("a", 1)
        run = Run(settings_to(source, target, tmp_path))
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
        client.execute_command(*command)
        with pytest.raises(TargetRejected, match=what):
            await run.future
