"""A recorded session is replayed again and again, and each time the worker is gone at another byte.

The source stands still behind its last command, with the session in its backlog. The target is put back to where the
session begins by loading its dump. A crash cuts the data connection behind a byte that is named and throws away all
that the worker had; the next worker knows what the target and the spool's folder tell it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.checkpoint.checkpoint import checkpoint_key
from engine.demo.servers import RunningServer
from engine.demo.writer import Workload
from engine.errors import TargetLinkLost
from engine.settings import ResumeMode, SpoolSettings, TargetSettings, TaskSettings
from engine.supervision.status import TaskStatus
from engine.supervision.task import Task
from tests.conditions import until
from tests.fix_servers import StartServer
from tests.live.running_task import MIB, make_settings, running
from tests.live.sides import CONFIG, compared, digest_of, filled, keys_of_ours, offset_of
from tests.live.world import PAIR, SOURCE_CONFIG
from tests.servers.cut_points import MakeCutPoint, behind
from tests.servers.fault_proxy import End, FaultProxy, Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

KEY = checkpoint_key("t1", "0")
DATA_LINK = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n"
BLOCK_BYTES = 512
KEYS = 60
COMMANDS = 2000
LASTING_MS = 3_600_000
EXEC = b"*1\r\n$4\r\nEXEC\r\n"
FIRST_BLOCK = 2  # the first transaction is the session's own checkpoint
# Behind what, and how many bytes more at most: each part of a block is cut in.
PLACES = [
    (EXEC, 0),  # between two blocks
    (EXEC[:-1], 0),  # the last byte is missing
    (EXEC[:-6], 0),
    (EXEC, 40),  # in the guard
    (b"$6\r\nHSETNX\r\n", 60),
    (b"$5\r\nMULTI\r\n", 0),
    (b"$5\r\nMULTI\r\n", BLOCK_BYTES),  # among the commands
    (b"$4\r\nHDEL\r\n", 90),  # in what writes the checkpoint
]


@dataclass(frozen=True)
class Recorded:
    """settings: through `proxy`. blocks: transactions of a replay without a crash. end_offset, digest: behind the last write."""

    source: RunningServer
    target: RunningServer
    proxy: FaultProxy
    settings: TaskSettings
    blocks: int
    end_offset: int
    digest: bytes

    async def rewinds(self) -> None:
        """The target is where the session begins."""

        def load() -> None:
            with self.target.client() as client:
                client.execute_command("DEBUG", "RELOAD", "NOSAVE")

        await asyncio.to_thread(load)

    def applied(self) -> int:
        """The offset in the target's checkpoint."""
        with self.target.client() as client:
            return int(client.hget(KEY, "offset") or -1)

    async def ends_equal(self) -> None:
        """Run to the end and compare."""
        end = offset_of(self.source)
        async with running(self.settings) as run:
            await run.reaches_offset(end)
            check(run.task.status())
        assert keys_of_ours(self.target) == [(0, KEY)]
        with self.target.client() as client:
            client.delete(KEY)
        assert digest_of(self.target) == self.digest, str(await compared(self.source, self.target))


def check(status: TaskStatus) -> None:
    assert (status.full_resyncs, status.partial_resyncs) == (0, 1)


def lasting(source: RunningServer) -> None:
    """Whatever expires does so long after the test."""
    with source.client() as client:
        dbs = [int(name[2:]) for name in client.info("keyspace")]
    for db in dbs:
        with source.client(db) as client:
            for key in client.scan_iter(count=1000):
                if client.pttl(key) >= 0:
                    client.pexpire(key, LASTING_MS)


def execs(target: RunningServer) -> int:
    with target.client() as client:
        return int(client.info("commandstats").get("cmdstat_exec", {}).get("calls", 0))


@asynccontextmanager
async def recorded(
    start_server: StartServer, *, seed: int, folder: Path | None
) -> AsyncIterator[Recorded]:
    source = start_server(PAIR[0], config=SOURCE_CONFIG | CONFIG)
    target = start_server(PAIR[1], config=CONFIG)
    await filled(source, KEYS, seed=seed)
    async with FaultProxy(target.port) as proxy:
        settings = make_settings(
            source.endpoint,
            replace(target.endpoint, port=proxy.port),
            resume_mode=ResumeMode.MANUAL,
            target_link=TargetSettings(
                block_bytes=BLOCK_BYTES, connect_timeout_seconds=5, reply_timeout_seconds=20
            ),
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=folder),
        )
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
        with target.client() as client:
            client.save()
        workload = Workload(source.endpoint, seed=seed, keys=30, whole_databases=True)
        await asyncio.to_thread(workload.run, threading.Event(), max_commands=COMMANDS)
        lasting(source)
        end_offset = offset_of(source)  # without a replica there are no PINGs
        it = Recorded(source, target, proxy, settings, 0, end_offset, digest_of(source))
        await it.rewinds()
        before = execs(target)
        await it.ends_equal()
        yield replace(it, blocks=execs(target) - before)


async def crash(it: Recorded, point: MakeCutPoint) -> bool:
    """Run a worker until its data connection is cut at `point`; False if it came to the end before."""
    end = offset_of(it.source)
    armed = it.proxy.cut_at(point, way=Way.TO_SERVER, end=End.CLOSE, opened_with=DATA_LINK)
    task = Task(it.settings)
    future = asyncio.create_task(task.run(), name="task under test")

    def is_at_the_end() -> bool:
        status = task.status()
        return status.applied_offset >= end and not status.expiries_owed

    await until(lambda: armed.fired or is_at_the_end(), "the cut or the end", running=future)
    has_crashed = bool(armed.fired)
    it.proxy.restore()
    if not has_crashed:
        task.request_stop()
    # With `manual` it ends at the first loss, and nothing more leaves it.
    async with asyncio.timeout(15):
        (outcome,) = await asyncio.gather(future, return_exceptions=True)
    check(task.status())
    # The last checkpoint of a stop may still meet the cut.
    assert isinstance(outcome, TargetLinkLost) or (outcome is None and not has_crashed), outcome
    return has_crashed


def points(rng: random.Random, blocks: range) -> Iterator[MakeCutPoint]:
    """One for each block, all kinds of places in turn."""
    for number, block in enumerate(blocks):
        pattern, most = PLACES[number % len(PLACES)]
        yield behind(pattern, nth=block, plus=rng.randint(0, most))


async def crashes_once_each(it: Recorded, rng: random.Random, step: int) -> int:
    """From the session's beginning each time; how many crashes there were."""
    crashes = 0
    for point in points(rng, range(FIRST_BLOCK, it.blocks, step)):
        await it.rewinds()
        crashes += await crash(it, point)
        await it.ends_equal()
    return crashes


async def crashes_one_after_the_other(it: Recorded, rng: random.Random, most_blocks: int) -> int:
    """Through one session, each worker dying 1 to `most_blocks` blocks after its first one; how many died."""
    crashes = 0
    applied = -1
    await it.rewinds()
    # Behind the last block a worker that always dies at once would ask for the same expiries for ever.
    while applied < it.end_offset:
        pattern, most = PLACES[crashes % len(PLACES)]
        nth = FIRST_BLOCK + rng.randrange(most_blocks)
        if not await crash(it, behind(pattern, nth=nth, plus=rng.randint(0, most))):
            break
        crashes += 1
        assert it.applied() >= applied, "the checkpoint never goes back"
        applied = it.applied()
    await it.ends_equal()
    return crashes


@pytest.mark.parametrize("has_folder", [False, True], ids=["no-spool", "same-spool"])
async def test_a_crash_anywhere_in_the_session_ends_in_the_same_state(
    has_folder: bool, start_server: StartServer, tmp_path: Path
) -> None:
    folder = tmp_path / "t1" if has_folder else None
    async with recorded(start_server, seed=11 + has_folder, folder=folder) as it:
        assert it.blocks > 100
        crashes = await crashes_once_each(it, random.Random(3), step=it.blocks // 16)
    assert crashes >= 12


@pytest.mark.parametrize("has_folder", [False, True], ids=["no-spool", "same-spool"])
async def test_one_crash_after_the_other_ends_in_the_same_state(
    has_folder: bool, start_server: StartServer, tmp_path: Path
) -> None:
    folder = tmp_path / "t1" if has_folder else None
    async with recorded(start_server, seed=21 + has_folder, folder=folder) as it:
        crashes = await crashes_one_after_the_other(it, random.Random(4), most_blocks=6)
    assert crashes >= 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2))
async def test_a_crash_at_every_block_ends_in_the_same_state(
    seed: int, start_server: StartServer, tmp_path: Path
) -> None:
    async with recorded(start_server, seed=31 + seed, folder=tmp_path / "t1") as it:
        rng = random.Random(seed)
        assert await crashes_once_each(it, rng, step=1) > it.blocks / 2
        assert await crashes_one_after_the_other(it, rng, most_blocks=2) > it.blocks / 2
