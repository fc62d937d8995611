"""Slots of a target cluster that do not settle for a while: each waits by itself, everything else goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.codec.slots import key_slot
from engine.demo.servers import RunningServer
from engine.replay import held_slots
from engine.settings import DeliveryMode
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import Run, running
from tests.live.sides import offset_of
from tests.live.test_cluster_target import CONFIG, NAME, settings_to
from tests.servers.cluster import PATIENT, ClusterNode, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
TAG = "stuck"
SLOT = key_slot(TAG.encode())
KEYS = [f"{{{TAG}}}{n}" for n in range(20)]


async def half_moved(target: RunningCluster) -> ClusterNode:
    """The slot is on its way, some of its keys are there."""
    origin = await asyncio.to_thread(target.primary_of, SLOT)
    to = next(it for it in target.primaries() if it.node_id != origin.node_id)
    await asyncio.to_thread(target.begin_move, SLOT, to)
    await asyncio.to_thread(target.move_keys, SLOT, to, most=8)
    return to


async def settles(target: RunningCluster, to: ClusterNode) -> None:
    await asyncio.to_thread(target.move_keys, SLOT, to)
    await asyncio.to_thread(target.finish_move, SLOT, to)


async def pipelined(source: RunningServer, commands: Iterable[Sequence[Any]]) -> None:
    """All at once, so that they reach the target in few batches."""

    def write() -> None:
        with source.client() as client, client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            pipeline.execute(raise_on_error=False)  # RENAME of what is not there

    await asyncio.to_thread(write)


async def waits_for_the_slot(run: Run) -> str:
    def told() -> str | None:
        text = run.task.status().error
        return text if text and f"slot {SLOT}" in text else None

    return str(await run.reaches(told, "the status names the slot", deadline_seconds=20))


@pytest.mark.parametrize("delivery", list(DeliveryMode))
async def test_a_slot_that_does_not_settle_waits_alone(
    delivery: DeliveryMode, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        source.client() as client,
        ClusterLoad(source) as load,
    ):
        for key in KEYS:
            client.rpush(key, "before")
        async with running(settings_to(source, target, tmp_path, delivery=delivery)) as run:
            await run.reaches_offset(offset_of(source))
            to = await half_moved(target)
            before = run.task.status().applied_offset
            # Two keys in one command: neither node has both (TRYAGAIN).
            for key in KEYS:
                client.rpush(key, "while it moves")
                client.set(f"{{{TAG}}}e", key, ex=3600)
            client.execute_command("SUNIONSTORE", f"{{{TAG}}}s", f"{{{TAG}}}t", f"{{{TAG}}}u")
            client.delete(*KEYS[::3])
            await run.reaches(lambda: run.task.status().slot_waits > 0, "the slot waits")
            if delivery is DeliveryMode.EXACTLY_ONCE:
                text = await waits_for_the_slot(run)
                assert "the other slots go on" in text
                passed = run.task.status().commands_applied
                await asyncio.to_thread(load.has_written, 2000)
                await run.reaches(
                    lambda: run.task.status().commands_applied > passed + 1500, "the others go on"
                )
                assert run.task.status().applied_offset - before < 100_000  # what the slot lacks
                assert offset_of(source) - run.task.status().applied_offset > 100_000
            await settles(target, to)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.error is None
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status
            assert await asyncio.to_thread(differences, source, target) == []


@pytest.mark.parametrize("delivery", list(DeliveryMode))
async def test_keys_of_both_nodes_in_one_batch(
    delivery: DeliveryMode, start_server: StartServer, tmp_path: Path
) -> None:
    """Each command goes to the node that has its key: else a key would be made on the other one, and stay there."""
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        source.client() as client,
    ):
        for key in KEYS:
            client.rpush(key, "before")
        async with running(settings_to(source, target, tmp_path, delivery=delivery)) as run:
            await run.reaches_offset(offset_of(source))
            to = await half_moved(target)
            await pipelined(
                source,
                [
                    *(("RPUSH", key, "x") for key in KEYS),
                    ("DEL", *KEYS[::3]),
                    ("RPUSH", KEYS[0], "y"),
                ],
            )
            await run.reaches(lambda: run.task.status().slot_waits > 0, "the slot waits")
            if delivery is DeliveryMode.AT_LEAST_ONCE:
                origin = await asyncio.to_thread(target.primary_of, SLOT)
                there = {
                    it: set(it.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 99)) for it in (origin, to)
                }
                assert not there[origin] & there[to]
            await settles(target, to)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status
            assert await asyncio.to_thread(differences, source, target) == []


def any_command(chance: random.Random, keys: Sequence[str]) -> Sequence[Any]:
    """One whose effect depends on the order, of one key or several."""
    a, b, c = chance.sample(keys, 3)
    value = chance.randrange(6)
    return chance.choice(
        [
            ("SADD", a, value, value + 1),
            ("SADD", a, value),
            ("SREM", a, value),
            ("SMOVE", a, b, value),
            ("SUNIONSTORE", a, b, c),
            ("SDIFFSTORE", a, b, c),
            ("RENAME", a, b),
            ("DEL", a, b),
            ("DEL", a),
            ("INCR", f"{{{TAG}}}n{value}"),
        ]
    )


@pytest.mark.parametrize("delivery", list(DeliveryMode))
@pytest.mark.parametrize("seed", range(2))
async def test_any_commands_while_the_keys_go_over_one_by_one(
    seed: int, delivery: DeliveryMode, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    chance = random.Random(seed)
    keys = [f"{{{TAG}}}{n}" for n in range(8)]
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target:
        async with running(settings_to(source, target, tmp_path, delivery=delivery)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            for _ in range(4):
                await pipelined(source, [any_command(chance, keys) for _ in range(60)])
                await run.reaches_offset(offset_of(source))
                origin = await asyncio.to_thread(target.primary_of, SLOT)
                to = next(it for it in target.primaries() if it.node_id != origin.node_id)
                await asyncio.to_thread(target.begin_move, SLOT, to)
                for _ in range(8):
                    await asyncio.to_thread(target.move_keys, SLOT, to, most=1)
                    for _ in range(chance.randrange(3)):
                        await pipelined(source, [any_command(chance, keys) for _ in range(12)])
                await settles(target, to)
                await run.reaches_offset(offset_of(source))
                assert await asyncio.to_thread(differences, source, target) == []
            status = run.task.status()
            assert status.slot_waits > 0
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status


async def test_what_a_slot_may_hold_is_bounded(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_slots, "HELD_BYTES", 64 * 1024)
    monkeypatch.setattr(held_slots, "TELL_SECONDS", 0.5)
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        source.client() as client,
    ):
        for key in KEYS:
            client.rpush(key, "before")
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches_offset(offset_of(source))
            to = await half_moved(target)
            for _ in range(30):
                for key in KEYS:
                    client.rpush(key, "x" * 400)
            client.set("another", 1)

            def says_so() -> bool:
                return "the line waits" in (run.task.status().error or "")

            await run.reaches(says_so, "the status says that the line waits")
            await settles(target, to)
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []


async def test_a_snapshot_goes_into_a_slot_that_moves(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as target,
        source.client() as client,
    ):
        for key in KEYS:
            client.rpush(key, "before")
        to = await half_moved(target)
        async with running(settings_to(source, target, tmp_path)) as run:
            # With ASKING: all of it is there, while the slot still moves.
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            assert run.task.status().slot_waits > 0
            assert to.ask("CLUSTER", "COUNTKEYSINSLOT", SLOT) >= len(KEYS)
            client.rpush(KEYS[0], "while it moves")
            await settles(target, to)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status
            assert await asyncio.to_thread(differences, source, target) == []


@pytest.mark.skipif("valkey-9.1" not in BINARIES, reason="Valkey 9 moves slots atomically")
async def test_slots_that_move_at_once_as_valkey_9_does_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("valkey-9.1", config=CONFIG)
    with (
        RunningCluster(BINARIES["valkey-9.1"], replicas=0, config=PATIENT) as target,
        ClusterLoad(source) as load,
    ):
        load.has_written(1000)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            first, second = target.primaries()[:2]
            for moves, to in enumerate((second, first), start=1):
                await asyncio.to_thread(target.migrate_slots, 0, 3999, to)
                await asyncio.to_thread(load.has_written, 500)
                # Else a slow worker may meet the slots only when they are back.
                await run.reaches(
                    lambda moves=moves: run.task.status().topology_changes >= moves,
                    "the move is met",
                )
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert (status.full_resyncs, status.target_reconnects) == (1, 0), status
            assert await asyncio.to_thread(differences, source, target) == []
