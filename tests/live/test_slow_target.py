"""A target that does not answer for a moment: what expires and comes then may not run out there before it is renewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.codec.slots import key_slot
from engine.endpoint import parse_endpoint
from engine.replay.margin import DAY_MS, LAG_SECONDS
from engine.replay.settling import Settling
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.running_task import MIB, Run, make_settings, running
from tests.live.sides import offset_of
from tests.live.world import PAIR, make_world, owes_corrections, stopped
from tests.servers.cluster import PATIENT, RunningCluster

pytestmark = pytest.mark.live

TTL_MS = 100_000


async def is_slow(run: Run) -> None:
    await run.reaches(lambda: run.task.status().lag_seconds > LAG_SECONDS, "the target is slow")


async def test_what_comes_while_a_server_stands_still_gets_the_margin(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await make_world(start_server, keys=10)
    with world.source.client() as source, world.target.client() as target:
        async with running(world.settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            await world.is_caught_up(run)
            monkeypatch.setattr(Settling, "is_put_off", lambda *_: True)
            with stopped(world.target):
                source.set("waits", 1)
                await is_slow(run)
                source.set("late", 1, px=TTL_MS)
                await run.reaches(lambda: owes_corrections(run), "it is noted")
            await run.reaches_offset(offset_of(world.source), is_settled=False)
            assert target.pttl("late") > 29 * DAY_MS
            monkeypatch.undo()
            await world.is_caught_up(run)
            assert 0 < target.pttl("late") <= TTL_MS
    assert await world.is_equal_and_clean()


async def test_what_comes_for_a_shard_while_another_stands_still_gets_the_margin(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = start_server(PAIR[0], config={"repl-diskless-sync-delay": 0})
    with RunningCluster(BINARIES[PAIR[1]], replicas=0, config=PATIENT) as target:
        first, second, _ = target.nodes  # in the order of their slots
        keys = {key_slot(b"%d" % n) // 5461: str(n) for n in range(100)}
        settings = make_settings(
            source.endpoint,
            parse_endpoint(target.url, role="target"),
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        with source.client() as client:
            async with running(settings) as run:
                await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
                client.mset({"of": 1, "several": 2, "slots": 3})
                await run.reaches_offset(offset_of(source))  # the stream has begun on all shards
                monkeypatch.setattr(Settling, "is_put_off", lambda *_: True)
                with stopped(first.server):
                    client.set(keys[0], 1)
                    await is_slow(run)
                    client.set(keys[1], 1, px=TTL_MS)
                    await run.reaches(
                        lambda: second.ask("PTTL", keys[1]) > 29 * DAY_MS, "it is there, with more"
                    )
                monkeypatch.undo()
                await run.reaches_offset(offset_of(source))
                assert 0 < second.ask("PTTL", keys[1]) <= TTL_MS
                assert run.task.status().target_reconnects == 0
