"""Commands over several slots, of a server whose keys get another name in the cluster: values are asked for by the source's name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis

from engine.selection import Selection
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cross_slot_load import CrossSlotLoad, random_wide_command
from tests.live.running_task import running
from tests.live.selected_sides import state_of
from tests.live.sides import offset_of
from tests.live.test_cross_slot import CONFIG, NAME, marks, settings_to
from tests.servers.cluster import RunningCluster

pytestmark = pytest.mark.live


class LoadWithoutPatterns(CrossSlotLoad):
    """SORT BY and GET name keys by patterns: with other names that is refused."""

    def _wide(self, client: redis.Redis) -> None:
        with client.pipeline(transaction=self._rng.random() < 0.3) as pipe:
            for _ in range(self._rng.randrange(5, 25)):
                command = random_wide_command(self._rng)
                if command[0] != "SORT":
                    self.used[command[0]] = self.used.get(command[0], 0) + 1
                    pipe.execute_command(*command)
            pipe.execute(raise_on_error=False)


async def test_every_kind_under_other_names(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server(NAME, config=CONFIG)
    selection = Selection(prefix_add=b"moved:")
    with RunningCluster(BINARIES[NAME], replicas=0) as target, LoadWithoutPatterns(source) as load:
        load.has_written(200)
        settings = settings_to(source, target, tmp_path, selection=selection)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_used, 800)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            await run.reaches(lambda: run.task.status().keys_in_doubt == 0, "no key in doubt")
            status = run.task.status()
        at_source = {
            b"moved:" + key: value for (_, key), value in state_of(source, range(1)).items()
        }
        at_target = {}
        for node in target.primaries():
            at_target |= {key: value for (_, key), value in state_of(node.server, range(1)).items()}

        assert at_target == at_source
        assert (
            status.keys_resolved > 10
        )  # a key that waits is fetched once for all commands that have written it
        assert status.cross_slot_resolved > 50
        assert marks(target) == []
