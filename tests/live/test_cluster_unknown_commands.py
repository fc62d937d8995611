"""Commands that the table does not know, as a module's: the target cluster tells where their keys stand, once.

The servers have core commands under other names (rename-command), which they replicate and explain as such.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from engine.demo.servers import RunningServer
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import running
from tests.live.sides import offset_of
from tests.live.test_cross_slot import CONFIG, settings_to
from tests.servers.cluster import PATIENT, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAMES = [it for it in ("redis-8.2", "valkey-9.1") if it in BINARIES]
RENAMED: dict[str, Any] = {
    "rename-command": (
        "LPUSH", "X.PUSH",
        "--rename-command", "MSETNX", "X.SET",
        "--rename-command", "ZUNIONSTORE", "X.UNION",
    )
}  # fmt: skip
SHAPES = 3  # of X.UNION


class UnknownLoad(ClusterLoad):
    """Beside the plain writes: those commands, in one slot and over several."""

    def _wide(self, client: Any) -> None:
        with client.pipeline(transaction=self._rng.random() < 0.3) as pipe:
            for _ in range(10):
                pipe.execute_command(*unknown_command(self._rng))
            pipe.execute(raise_on_error=False)


def unknown_command(rng: random.Random) -> tuple[Any, ...]:
    a, b, c = rng.sample(range(12), 3)
    tag = rng.choice(("", "{t}", "{u}"))
    z = f"{tag}z:"
    return rng.choice(
        (
            ("X.PUSH", f"{tag}l:{a}", rng.randrange(100)),
            ("RPOP", f"{tag}l:{a}"),
            ("X.SET", f"{tag}m:{a}", rng.randrange(100), f"{tag}m:{b}", rng.randrange(100)),
            ("DEL", f"{tag}m:{a}"),
            ("ZINCRBY", f"{z}{a}", 1, rng.randrange(20)),
            ("X.UNION", f"{z}{a}", 2, f"{z}{b}", f"{z}{c}"),
            ("X.UNION", f"{z}{a}", 1, f"{z}{c}", "AGGREGATE", "MAX"),
            ("x.union", f"{z}{a}", 2, f"{z}{b}", f"{z}{c}", "weights", 1, 2),
            ("ZREMRANGEBYRANK", f"{z}{a}", 0, -9),
        )
    )


def asked(target: RunningCluster, subcommand: str) -> int:
    found = 0
    for node in target.nodes:
        with node.server.client() as client:
            stats = client.info("commandstats")
            found += stats.get(f"cmdstat_command|{subcommand}", {}).get("calls", 0)
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_into_three_shards_under_load(
    name: str, start_server: StartServer, tmp_path: Path
) -> None:
    source: RunningServer = start_server(name, config=CONFIG | RENAMED)
    with (
        RunningCluster(BINARIES[name], replicas=0, config=PATIENT | RENAMED) as target,
        UnknownLoad(source, is_wide=True) as load,
    ):
        load.has_written(500)
        async with running(settings_to(source, target, tmp_path)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            getkeys, info = asked(target, "getkeys"), asked(target, "info")
            await asyncio.to_thread(load.has_written, 6000)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            assert await asyncio.to_thread(differences, source, target) == []
            status = run.task.status()
            assert {"X.SET", "X.UNION"} <= status.cross_slot.keys()
            assert "X.PUSH" not in status.cross_slot
            assert status.keys_resolved > 20
            assert (status.full_resyncs, status.target_reconnects) == (1, 0)
        assert asked(target, "getkeys") - getkeys <= SHAPES
        assert asked(target, "info") - info <= 3
        assert getkeys + asked(target, "getkeys") >= SHAPES
