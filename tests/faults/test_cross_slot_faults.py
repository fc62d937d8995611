"""Commands over several slots into a cluster, while the worker is killed, primaries are lost and slots move."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.test_cluster_faults import (
    CONFIG,
    LOST_PRIMARY,
    MOVED_SLOTS,
    NAME,
    PATIENCE_SECONDS,
    fail_over,
    streams,
)
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_sides import differences
from tests.live.cross_slot_load import CrossSlotLoad, marks
from tests.live.sides import offset_of
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]


def run_faults(
    start_server: StartServer, folder: Path, *, kills: int, faults: int, seed: int, options=()
) -> None:
    """Kill the worker `kills` times; before the first `faults` of these a primary is lost or slots move."""
    rng = random.Random(seed)
    source = start_server(NAME, config=CONFIG)
    with (
        RunningCluster(BINARIES[NAME], replicas=1 if faults else 0) as target,
        CrossSlotLoad(source, rate=1000, seed=seed) as load,
        Worker(source.url, target.url, folder, *options) as worker,
    ):
        load.has_used(100)
        worker.start()
        for number in range(kills):
            streams(worker)
            load.has_used(rng.randrange(50, 200))
            before = worker.status
            if number < faults and number % 2 == 0:
                fail_over(target, rng.randrange(3))
                worker.has_met(*LOST_PRIMARY, since=before)
                streams(worker)
            elif number < faults:
                _, other = target.primaries()[:2]
                for slot in rng.sample(sorted(target.map().shards[0].slots), 40):
                    target.move_slot(slot, other)
                worker.has_met(*MOVED_SLOTS, since=before)
            worker.kill()
            load.has_used(rng.randrange(20, 100))
            worker.start()
        streams(worker)
        load.has_used(50)
        load.stop()
        worker.applies(offset_of(source), deadline_seconds=PATIENCE_SECONDS)
        worker.wait_for(
            lambda it: not it["expiries_owed"] and it["keys_in_doubt"] == 0,
            "nothing is owed",
            deadline_seconds=PATIENCE_SECONDS,
        )
        assert worker.stop() == 130
        assert differences(source, target) == []
        assert marks(target) == []
        assert worker.totals["full_resyncs"] == 1
        assert worker.totals["partial_resyncs"] >= kills
        assert worker.totals["keys_resolved"] > 0
        assert worker.totals["cross_slot_resolved"] > 0
        assert worker.totals["cross_slot_split"] > 0


def test_kills_lose_and_double_nothing(start_server: StartServer, tmp_path: Path) -> None:
    run_faults(start_server, tmp_path, kills=3, faults=0, seed=1)


def test_a_lost_primary_takes_its_marks_along(start_server: StartServer, tmp_path: Path) -> None:
    run_faults(start_server, tmp_path, kills=1, faults=1, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_kills_and_faults(start_server: StartServer, tmp_path: Path) -> None:
    run_faults(start_server, tmp_path, kills=25, faults=10, seed=3)
