"""What is done over all keys of a cluster as the target, while a slot goes from a node that is still to come to one that was looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.cluster.places import with_address_map
from engine.codec.slots import key_slot
from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences, everything
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.sides import offset_of
from tests.servers.cluster import PATIENT, RunningCluster
from tests.servers.fault_proxy import FaultProxy, Gate

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-diskless-sync-delay": 0}
SCAN = b"\r\nSCAN\r\n"
KEYS = 300
NAMES = [b"key:%d" % number for number in range(KEYS)]
TTL_SECONDS = 3600


@dataclass
class World:
    """gate: before the first SCAN of the middle node, which is looked at between the first and the last."""

    source: RunningServer
    target: RunningCluster
    proxy: FaultProxy
    settings: Any

    def hold(self) -> Gate:
        return self.proxy.hold_before(SCAN)

    async def moves_in(self, gate: Gate, run: Run, move: Callable[[int], None]) -> None:
        """The first node was looked at, the second waits: a slot of the third that has keys goes elsewhere."""
        await run.reaches(gate.reached.is_set, "the second node is to be looked at")
        last = self.target.primaries()[2]
        slots = last.map().shards[2].slots
        slot = next(it for it in map(key_slot, NAMES) if it in slots)
        await asyncio.to_thread(move, slot)
        gate.opened.set()


@asynccontextmanager
async def world(start_server: StartServer, folder: Path) -> AsyncIterator[World]:
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target:
        second = target.primaries()[1].server.port
        async with FaultProxy(second) as proxy:
            endpoint = with_address_map(
                parse_endpoint(f"redis://127.0.0.1:{target.nodes[0].server.port}", role="target"),
                [(f"127.0.0.1:{second}", f"127.0.0.1:{proxy.port}")],
            )
            settings = make_settings(
                source.endpoint,
                endpoint,
                spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder / "t1"),
            )
            yield World(source, target, proxy, settings)


def fill(source: RunningServer, **options: Any) -> None:
    with source.client() as client, client.pipeline(transaction=False) as pipe:
        for name in NAMES:
            pipe.set(name, name * 3, **options)
        pipe.execute()


def has_event(logs: list[Any], name: str) -> bool:
    return any(it["event"] == name for it in logs)


async def test_a_flush_leaves_nothing_of_a_slot_that_moves(
    start_server: StartServer, tmp_path: Path
) -> None:
    async with world(start_server, tmp_path) as it:
        fill(it.source)
        async with running(it.settings) as run:
            await run.reaches_offset(offset_of(it.source))
            assert len(everything(it.target)) == KEYS
            gate = it.hold()
            with it.source.client() as client, capture_logs() as logs:
                client.flushall()
                first = it.target.primaries()[0]
                await it.moves_in(gate, run, lambda slot: it.target.move_slot(slot, first))
                client.set("key:behind", 1)
                await run.reaches_offset(offset_of(it.source))
            assert has_event(logs, "target.looked_at_again")
            assert [it["keys"] for it in logs if it["event"] == "stream.flushed"] == [KEYS]
            assert await asyncio.to_thread(differences, it.source, it.target) == []
            assert list(everything(it.target)) == [b"key:behind"]


async def test_leftovers_of_a_slot_that_moves_are_removed(
    start_server: StartServer, tmp_path: Path
) -> None:
    async with world(start_server, tmp_path) as it:
        fill(it.source)
        async with running(it.settings) as run:
            await run.reaches_offset(offset_of(it.source))
            gate = it.hold()
            with capture_logs() as logs:
                it.source.kill()  # what it had is gone, and so is its history
                await asyncio.to_thread(it.source.start)
                first = it.target.primaries()[0]
                await it.moves_in(gate, run, lambda slot: it.target.move_slot(slot, first))
                with it.source.client() as client:
                    client.set("key:behind", 1)
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream again")
                await run.reaches_offset(offset_of(it.source))
            assert has_event(logs, "target.looked_at_again")
            status = run.task.status()
            assert (status.full_resyncs, status.leftovers_removed) == (2, KEYS)
            assert await asyncio.to_thread(differences, it.source, it.target) == []


@pytest.mark.parametrize("is_whole", [True, False], ids=["moved", "half-moved"])
async def test_expiries_in_a_slot_that_moves_become_the_sources(
    is_whole: bool, start_server: StartServer, tmp_path: Path
) -> None:
    """half-moved: its keys are on a node that does not serve it, and is asked for them all the same."""
    async with world(start_server, tmp_path) as it:
        fill(it.source, ex=TTL_SECONDS)
        gate = it.hold()
        moving: list[int] = []
        first = it.target.primaries()[0]

        def move(slot: int) -> None:
            moving.append(slot)
            it.target.begin_move(slot, first)
            it.target.move_keys(slot, first)
            if is_whole:
                it.target.finish_move(slot, first)

        with capture_logs() as logs:
            async with running(it.settings) as run:
                await it.moves_in(gate, run, move)
                if not is_whole:
                    await run.reaches(
                        lambda: run.task.status().slot_waits or has_event(logs, "expiry.searched"),
                        "the key is found, or all were looked at",
                    )
                    it.target.finish_move(moving[0], first)
                await run.reaches_offset(offset_of(it.source))
                assert not run.task.status().expiries_owed
                assert run.task.status().target_reconnects == 0
                assert await asyncio.to_thread(differences, it.source, it.target) == []
                assert has_event(logs, "target.looked_at_again")


async def test_a_task_begins_while_a_reshard_takes_a_shards_lowest_slots(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    fill(source)
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target:
        settings = make_settings(source.endpoint, parse_endpoint(target.url, role="target"))
        first = target.primaries()[1]
        await asyncio.to_thread(target.begin_move, 0, first)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.status().slot_waits, "that slot alone waits")
            await asyncio.to_thread(target.finish_move, 0, first)
            await run.reaches_offset(offset_of(source))
            assert not run.task.status().retries
            assert await asyncio.to_thread(differences, source, target) == []
