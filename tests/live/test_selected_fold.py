"""Several databases into one: right where no name is in two of them, told and never overwritten where one is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.demo.servers import RunningServer
from tests.faults.arena import holds
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.selected_sides import SelectedLoad, State, state_of
from tests.live.sides import CONFIG, offset_of
from tests.servers.cluster import PATIENT, RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
BOTH_TARGETS = pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])

Target = RunningServer | RunningCluster


@contextmanager
def target_of(is_cluster: bool, start_server: StartServer) -> Iterator[Target]:
    if not is_cluster:
        yield start_server(NAME, config=CONFIG)
        return
    with RunningCluster(BINARIES[NAME], replicas=0, config=PATIENT) as cluster:
        yield cluster


def state_at(target: Target) -> State:
    if isinstance(target, RunningServer):
        return state_of(target)
    nodes = (state_of(it.server, range(1)) for it in target.primaries())
    return {place: value for node in nodes for place, value in node.items()}


def names(db: int, name: bytes) -> bytes:
    """No name in two databases, and the keys of each in one slot."""
    return b"%b{%d}" % (name, db)


def folded(source: State, dbs: tuple[int, ...]) -> State:
    return {(0, key): value for (db, key), value in source.items() if db in dbs}


def ends_equal(
    worker: Worker, source: RunningServer, dbs: tuple[int, ...], found: Callable[[], State]
) -> None:
    worker.applies(offset_of(source))
    worker.wait_for(lambda it: not it["expiries_owed"], "all expiries are the source's")
    holds(
        lambda: (
            not any(0 < at < time.time() * 1000 + 60_000 for _, _, at in state_of(source).values())
        ),
        "short-lived keys are gone",
    )
    worker.applies(offset_of(source))
    holds(lambda: folded(state_of(source), dbs) == found(), "equal", deadline_seconds=10)


def follows(worker: Worker) -> None:
    worker.wait_for(lambda it: it["state"] == "stream", "the stream")


def test_databases_are_folded_into_a_cluster_through_kills_of_the_worker(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    dbs = (0, 1, 3)
    with (
        RunningCluster(BINARIES[NAME], replicas=0) as cluster,
        SelectedLoad(source, dbs=(0, 1, 2, 3), selected=dbs, names=names, may_move=False) as load,
    ):
        load.has_written(2000)
        options = ("--databases=0,1,3", "--db-map=1:0,3:0")
        with Worker(source.url, cluster.url, tmp_path, *options) as worker:
            worker.start()
            follows(worker)
            for _ in range(2):
                load.has_written(1500)
                worker.kill()
                load.has_written(300)
                worker.start()
                follows(worker)
            with source.client(1) as client:
                client.flushdb()
            load.has_written(1000)
            load.stop()
            ends_equal(worker, source, dbs, lambda: state_at(cluster))
            assert worker.totals["full_resyncs"] == 1
            assert worker.stop() == 130


def test_one_database_of_several_goes_into_a_cluster_and_on_after_a_stop(
    start_server: StartServer, tmp_path: Path
) -> None:
    """What the source has selected where a run goes on stands in the checkpoints of the slots."""
    source = start_server(NAME, config=CONFIG)
    with RunningCluster(BINARIES[NAME], replicas=0) as cluster, source.client(3) as other:
        with source.client() as client:
            client.set("a", "0")
        with Worker(source.url, cluster.url, tmp_path, "--databases=0") as worker:
            worker.start()
            follows(worker)
            for number in range(100):
                other.set("a", number)
            worker.applies(offset_of(source))
            assert worker.stop() == 130
            for number in range(100):
                other.set("a", number)
            worker.start()
            worker.applies(offset_of(source))
            assert worker.totals["full_resyncs"] == 1
            assert worker.status["commands_filtered"] >= 100
            assert worker.stop() == 130
        found = [state_of(it.server, range(1)) for it in cluster.primaries()]
        assert [it[0, b"a"] for it in found if it] == [(b"string", b"0", -1)]


@BOTH_TARGETS
def test_a_name_in_two_databases_stops_a_snapshot(
    is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    for db in (0, 4):
        with source.client(db) as client:
            client.set("same", db)
            client.set(f"only:{db}", db)
    with (
        target_of(is_cluster, start_server) as target,
        Worker(source.url, target.url, tmp_path, "--db-map=4:0") as worker,
    ):
        worker.start()
        assert worker.wait_for_end() == 3  # before anything was written
        text = worker.log_path.read_text()
        for part in ("'same' of database 4", "database 0 has a key of this name", "--db-map"):
            assert part in text
        nodes = target.primaries() if isinstance(target, RunningCluster) else [target]
        for node in nodes:
            with (node if isinstance(node, RunningServer) else node.server).client() as client:
                assert client.dbsize() == 0  # nor a checkpoint


@BOTH_TARGETS
def test_a_name_in_two_databases_is_listed_where_it_may_be_left_out(
    is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    for db in (0, 4):
        with source.client(db) as client:
            client.set("same", db)
            client.set(f"only:{db}", db)
    options = ("--db-map=4:0", "--on-unsupported=skip")
    with (
        target_of(is_cluster, start_server) as target,
        Worker(source.url, target.url, tmp_path, *options) as worker,
    ):
        worker.start()
        follows(worker)
        with source.client(4) as client:
            client.set("same", "again")
            client.set("only:0", "theirs")
            client.delete("same", "only:4")
        worker.applies(offset_of(source))
        # The key of the snapshot, and two commands.
        worker.wait_for(lambda it: it["refused"] == 3, "three refusals")
        (report,) = worker.spool_dir.rglob("refused-keys.jsonl")
        assert report.read_text().count('"same"') == 2
        assert worker.stop() == 130
        assert state_at(target) == {
            (0, b"same"): (b"string", b"0", -1),
            (0, b"only:0"): (b"string", b"0", -1),
        }


@BOTH_TARGETS
def test_a_name_that_comes_into_a_second_database_stops_the_stream(
    is_cluster: bool, start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config=CONFIG)
    with source.client() as client:
        client.set("same", "0")
    with (
        target_of(is_cluster, start_server) as target,
        Worker(source.url, target.url, tmp_path, "--db-map=4:0") as worker,
    ):
        worker.start()
        follows(worker)
        worker.applies(offset_of(source))
        worker.kill()  # what it knows of names is on disk
        worker.start()
        follows(worker)
        with source.client(4) as client:
            client.set("other", "4")
            client.rpush("same", "4")
        assert worker.wait_for_end() == 4
        text = worker.log_path.read_text()
        for part in ("RPUSH on key b'same' of database 4", "database 0 has brought a key"):
            assert part in text
        found = state_at(target)
        assert found[0, b"same"] == (b"string", b"0", -1)
        assert found[0, b"other"] == (b"string", b"4", -1)
