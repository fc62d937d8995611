"""Some keys and databases only, under other names, into a target that has keys of its own: equal to the source's, the rest untouched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.demo.servers import RunningServer
from tests.faults.arena import holds
from tests.faults.worker import Worker
from tests.fix_servers import StartServer
from tests.live.selected_sides import SelectedLoad, State, state_of
from tests.live.sides import CONFIG, offset_of

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"
OPTIONS = (
    "--include-key=app:*",
    "--exclude-key=app:hash:[01]",
    "--databases=0,1",
    "--db-map=0:5,1:0",
    "--key-prefix-strip=app:",
    "--key-prefix-add=new:{x}:",
)
TARGET_DBS = {0: 5, 1: 0}
FOREIGN = {
    (0, b"other:str:1"): b"theirs",
    (0, b"new:{x}:nosuch"): b"theirs",
    (5, b"app:str:3"): b"theirs",
    (5, b"new:{x}:nosuch:2"): b"theirs",
    (2, b"new:{x}:str:3"): b"theirs",
    (3, b"app:str:3"): b"theirs",
}


def expected(source: State) -> State:
    """What the options mean, in other words than the engine's."""
    return {
        (TARGET_DBS[db], b"new:{x}:" + key[4:]): value
        for (db, key), value in source.items()
        if db in TARGET_DBS
        and key.startswith(b"app:")
        and key not in {b"app:hash:0", b"app:hash:1"}
    }


def put_foreign(target: RunningServer) -> None:
    for (db, key), value in FOREIGN.items():
        with target.client(db) as client:
            client.set(key, value)


def is_equal(source: RunningServer, target: RunningServer) -> bool:
    """After the newest expiry of the load has passed on both sides it must be so, for good."""
    wanted = expected(state_of(source))
    found = state_of(target)
    for place, value in FOREIGN.items():
        assert found.pop(place) == (b"string", value, -1), place
    return found == wanted


def differences(source: RunningServer, target: RunningServer) -> list[str]:
    wanted, found = expected(state_of(source)), state_of(target)
    places = sorted(set(wanted) | (set(found) - set(FOREIGN)))
    return [f"{it}: {wanted.get(it)} / {found.get(it)}" for it in places if wanted.get(it) != found.get(it)]  # fmt: skip


@contextmanager
def sides(start_server: StartServer) -> Iterator[tuple[RunningServer, RunningServer]]:
    source = start_server(NAME, config=CONFIG)
    target = start_server(NAME, config=CONFIG)
    put_foreign(target)
    yield source, target


def ends_equal(worker: Worker, source: RunningServer, target: RunningServer) -> None:
    worker.applies(offset_of(source))
    worker.wait_for(lambda it: not it["expiries_owed"], "all expiries are the source's")
    holds(lambda: not _expire_soon(source), "short-lived keys are gone")
    worker.applies(offset_of(source))
    try:
        holds(lambda: is_equal(source, target), "equal", deadline_seconds=5)
    except AssertionError:
        raise AssertionError("\n".join(differences(source, target))) from None


def _expire_soon(server: RunningServer) -> bool:
    now_ms = time.time() * 1000
    return any(0 < at < now_ms + 60_000 for _, _, at in state_of(server).values())


def test_a_selection_is_equal_through_kills_of_the_worker(
    start_server: StartServer, tmp_path: Path
) -> None:
    with sides(start_server) as (source, target), SelectedLoad(source) as load:
        load.has_written(3000)
        with Worker(source.url, target.url, tmp_path, *OPTIONS) as worker:
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            for _ in range(3):
                load.has_written(1500)
                worker.kill()
                load.has_written(300)
                worker.start()
                worker.wait_for(lambda it: it["state"] == "stream", "the stream again")
            load.has_written(1000)
            load.stop()
            ends_equal(worker, source, target)
            status = worker.status
            assert status["commands_filtered"] > 0
            assert worker.totals["full_resyncs"] == 1
            assert worker.stop() == 130


def test_a_snapshot_of_a_selection_counts_what_it_leaves_out(
    start_server: StartServer, tmp_path: Path
) -> None:
    with sides(start_server) as (source, target):
        with SelectedLoad(source) as load:
            load.has_written(3000)
        with Worker(source.url, target.url, tmp_path, *OPTIONS) as worker:
            worker.start("--exit-when-synced")
            assert worker.wait_for_end() == 0
            status = worker.status
        with source.client() as client:
            before = sum(it["keys"] for it in client.info("keyspace").values())
        holds(lambda: is_equal(source, target), "equal")
        assert status["keys_filtered"] > 0
        assert status["keys_applied"] + status["keys_filtered"] >= before


@pytest.mark.parametrize("command", [("FLUSHDB",), ("FLUSHALL",)])
def test_a_flush_removes_what_the_task_has_brought_and_nothing_else(
    command: tuple[str], start_server: StartServer, tmp_path: Path
) -> None:
    with sides(start_server) as (source, target):
        with SelectedLoad(source) as load:
            load.has_written(2000)
        with Worker(source.url, target.url, tmp_path, *OPTIONS) as worker:
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            with source.client() as client:
                client.set("app:before", "1")
                client.execute_command(*command)
                client.set("app:after", "1")
            ends_equal(worker, source, target)
            with target.client(5) as client:
                assert client.get("new:{x}:after") == b"1"
                assert not client.exists("new:{x}:before")
            assert worker.stop() == 130


def test_other_options_do_not_go_on_with_a_task(start_server: StartServer, tmp_path: Path) -> None:
    with sides(start_server) as (source, target):
        with source.client() as client:
            client.set("app:x", "1")
        with Worker(source.url, target.url, tmp_path, "--include-key=app:*") as worker:
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            assert worker.stop() == 130
            before = state_of(target)
            for more in ((), ("--exclude-key=app:y",)):
                with Worker(source.url, target.url, tmp_path, *(f"--include-key={it}" for it in ("app:*", "b:*")), *more) as other:  # fmt: skip
                    other.start()
                    assert other.wait_for_end() == 3
                    text = other.log_path.read_text()
                    assert "began with another choice" in text
                    assert "--include-key 'app:*'" in text
                    assert "tasks forget" in text
            assert state_of(target) == before
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream" and it["resumed"], "resumed")
            assert worker.stop() == 130


def test_a_command_that_cannot_be_divided_stops_the_task_by_name(
    start_server: StartServer, tmp_path: Path
) -> None:
    with sides(start_server) as (source, target):
        with Worker(source.url, target.url, tmp_path, *OPTIONS) as worker:
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            with source.client() as client:
                client.set("other:a", "1")
                client.set("app:b", "1")
                client.rename("other:a", "app:b")
                client.set("app:c", "1")
            assert worker.wait_for_end() == 4
            text = worker.log_path.read_text()
            for part in ("RENAME", "other:a", "--exclude-command", "left out"):
                assert part in text
        with target.client(5) as client:
            assert client.get("new:{x}:b") == b"1"
            assert not client.exists("new:{x}:c")


def test_a_command_that_cannot_be_divided_is_listed_where_it_may_be_left_out(
    start_server: StartServer, tmp_path: Path
) -> None:
    options = ("--include-key=app:*", "--on-unsupported=skip")
    with sides(start_server) as (source, target):
        with Worker(source.url, target.url, tmp_path, *options) as worker:
            worker.start()
            worker.wait_for(lambda it: it["state"] == "stream", "the stream")
            with source.client() as client:
                client.set("other:a", "1")
                client.rename("other:a", "app:b")
                client.set("app:c", "1")
            worker.applies(offset_of(source))
            worker.wait_for(lambda it: it["refused"] == 1, "the refusal is counted")
            (report,) = worker.spool_dir.rglob("refused-keys.jsonl")
            assert "RENAME" in report.read_text()
            assert worker.stop() == 130
        with target.client() as client:
            assert client.get("app:c") == b"1"
            assert not client.exists("app:b")
