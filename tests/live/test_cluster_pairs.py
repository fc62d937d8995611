"""Clusters and Sentinels into each other under load, with slot maps that have nothing in common."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.settings import SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import MIB, make_settings, running
from tests.live.sides import offset_of
from tests.live.test_cluster_source import catches_up
from tests.servers.cluster import RunningCluster
from tests.servers.sentinels import SentinelTrio

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
CONFIG = {"repl-diskless-sync-delay": 0, "repl-backlog-size": "16mb"}
PIECE = 1024


def striped(shards: int, *, first: int = 0) -> list[list[tuple[int, int]]]:
    """Stripes of slots, given out in turn: another map than even_ranges, whatever the count."""
    stripes = [(at, at + PIECE - 1) for at in range(0, 16384, PIECE)]
    return [stripes[(first + n) % shards :: shards] for n in range(shards)]


def made(kind: str) -> Any:
    name, _, shards = kind.partition("-")
    if name == "sentinel":
        return SentinelTrio(BINARIES[NAME], config=CONFIG)
    layout = striped(int(shards)) if name == "striped" else None
    return RunningCluster(BINARIES[NAME], replicas=0, layout=layout, config=CONFIG)


def data_of(side: Any) -> RunningServer | RunningCluster:
    return side.primary if isinstance(side, SentinelTrio) else side


@pytest.mark.parametrize(
    ("source_kind", "target_kind"),
    [
        ("striped-5", "even-3"),
        ("sentinel", "even-3"),
        pytest.param("even-3", "striped-5", marks=pytest.mark.slow),
        pytest.param("striped-4", "sentinel", marks=pytest.mark.slow),
    ],
)
async def test_a_pair_under_load_ends_equal(
    source_kind: str, target_kind: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        source, target = (stack.enter_context(made(it)) for it in (source_kind, target_kind))
        load = stack.enter_context(ClusterLoad(data_of(source)))
        load.has_written(2000)
        settings = make_settings(
            parse_endpoint(source.url, role="source"),
            parse_endpoint(target.url, role="target"),
            spool=SpoolSettings(memory_bytes=4 * MIB, directory=tmp_path / "t1"),
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 3000)
            await asyncio.to_thread(load.stop)
            if isinstance(source, RunningCluster):
                await catches_up(run, source)
            else:
                await run.reaches_offset(offset_of(source.primary))
            status = run.task.status()
            lines = len(source.map().shards) if isinstance(source, RunningCluster) else 1
            assert (status.full_resyncs, status.reconnects) == (lines, 0)
            assert await asyncio.to_thread(differences, data_of(source), data_of(target)) == []
