"""kill -9 of the worker, of the source and of the target, again and again, under a load where each command counts.

The long version: `pytest -m slow tests/faults/test_kill_loop.py`.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.arena import AOF, MIB, Arena, arena, ballast
from tests.faults.load import FaultLoad
from tests.fix_servers import StartServer
from tests.servers.fault_proxy import Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

RATE = 1200
SNAPSHOT_BYTES_PER_SECOND = 400 * 1024
CATCH_UP_BYTES_PER_SECOND = MIB
BURST_BYTES = 14 * MIB
# A little less than a burst: what only the spool still has.
SMALL_BACKLOG: dict[str, str | int] = {"repl-backlog-size": "12mb"}
SMALL_SPOOL = "--spool-memory-mb=8"


def at_any_moment(rng: random.Random, longest_seconds: float) -> None:
    """The moment of a kill is random; nothing waits for this."""
    time.sleep(rng.uniform(0.0, longest_seconds))


def throttle(it: Arena, bytes_per_second: int) -> None:
    it.target_proxy.do(lambda proxy: proxy.throttle(bytes_per_second, Way.TO_SERVER))


def kill_in_the_snapshot(it: Arena, rng: random.Random) -> None:
    throttle(it, SNAPSHOT_BYTES_PER_SECOND)
    it.worker.start()
    it.worker.wait_for(lambda now: now["phase"] == "snapshot" and now["keys_applied"], "keys")
    at_any_moment(rng, 0.5)
    it.worker.kill()
    throttle(it, 0)


def kill_in_the_stream(it: Arena, load: FaultLoad, rng: random.Random) -> None:
    it.worker.start()
    it.follows()
    load.has_written(rng.randrange(50, 800))
    at_any_moment(rng, 0.1)
    it.worker.kill()


def kill_while_it_catches_up(it: Arena, rng: random.Random) -> None:
    """A target so slow that most of a burst lies in the spool when the worker dies."""
    it.worker.start()
    it.follows()
    it.catches_up()
    throttle(it, CATCH_UP_BYTES_PER_SECOND)
    ballast(it.source, BURST_BYTES)
    it.worker.wait_for(lambda now: now.get("spool_disk_bytes"), "the spool is on disk")
    at_any_moment(rng, 1.0)
    it.worker.kill()
    throttle(it, 0)


def kill_loop(it: Arena, rng: random.Random, *, kills_in_each_phase: int) -> None:
    """One migration, killed in each of its phases; at the end both sides are equal."""
    with FaultLoad(it.source.endpoint, rate=RATE, seed=rng.randrange(1 << 30)) as load:
        for _ in range(kills_in_each_phase):
            kill_in_the_snapshot(it, rng)
        for _ in range(kills_in_each_phase):
            kill_in_the_stream(it, load, rng)
        for _ in range(kills_in_each_phase):
            kill_while_it_catches_up(it, rng)
        it.worker.start()
        it.follows()
        load.has_written(500)
    it.ends_equal()


def the_ways_were_taken(it: Arena, *, rounds: int, kills_in_each_phase: int) -> None:
    totals, kills = it.worker.totals, kills_in_each_phase
    # All snapshots were cut but the last; everything behind it was continued.
    assert totals["full_resyncs"] == rounds * (kills + 1), totals
    assert totals["partial_resyncs"] >= rounds * (2 * kills - 1), totals
    assert totals["spool_recovered_bytes"] > 0, totals
    assert totals["checkpoint_skipped_bytes"] > 0, totals


def test_a_worker_killed_in_every_phase_loses_and_doubles_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path, SMALL_SPOOL, source_config=SMALL_BACKLOG) as it:
        kill_loop(it, random.Random(1), kills_in_each_phase=2)
        the_ways_were_taken(it, rounds=1, kills_in_each_phase=2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("server", ["redis-8.2", "valkey-9.1"])
def test_a_worker_killed_fifty_times_loses_and_doubles_nothing(
    server: str, start_server: StartServer, tmp_path: Path
) -> None:
    with arena(
        start_server, tmp_path, SMALL_SPOOL, server=server, source_config=SMALL_BACKLOG
    ) as it:
        for seed in range(6):
            kill_loop(it, random.Random(seed), kills_in_each_phase=3)
            with it.target.client() as client:
                client.flushall()
        the_ways_were_taken(it, rounds=6, kills_in_each_phase=3)


def kill_servers(it: Arena, server_name: str, rng: random.Random, kills: int) -> None:
    server = it.source if server_name == "source" else it.target
    with FaultLoad(it.source.endpoint, rate=RATE, seed=rng.randrange(1 << 30)) as load:
        it.worker.start()
        for _ in range(kills):
            it.follows()
            load.has_written(rng.randrange(100, 800))
            at_any_moment(rng, 0.2)
            errors = it.worker.status["errors"]
            server.kill()
            it.worker.wait_for(lambda now, n=errors: now["errors"] > n, "it is noticed")
            server.start()
        it.follows()
        load.has_written(500)
    it.ends_equal()


def the_right_side_came_back(it: Arena, server_name: str, kills: int) -> None:
    totals = it.worker.totals
    # An append-only file keeps a source's data and not its replication id.
    assert totals["full_resyncs"] == (1 + kills if server_name == "source" else 1), totals
    assert totals[f"{server_name}_reconnects"] >= kills, totals
    assert it.worker.runs == 1


@pytest.mark.parametrize("server_name", ["source", "target"])
def test_a_server_killed_twice_comes_back_and_nothing_is_lost_or_doubled(
    server_name: str, start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path, source_config=AOF, target_config=AOF) as it:
        kill_servers(it, server_name, random.Random(2), 2)
        the_right_side_came_back(it, server_name, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("server_name", ["source", "target"])
def test_a_server_killed_twenty_times_comes_back_and_nothing_is_lost_or_doubled(
    server_name: str, start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path, source_config=AOF, target_config=AOF) as it:
        kill_servers(it, server_name, random.Random(3), 20)
        the_right_side_came_back(it, server_name, 20)
