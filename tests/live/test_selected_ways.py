"""A selection on other ways than from one server to its like: a foreign target, plain commands, another snapshot, a cluster as the source."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from tests.faults.arena import holds
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.selected_sides import SelectedLoad, state_of
from tests.live.sides import CONFIG, offset_of
from tests.live.test_selected import FOREIGN, OPTIONS, ends_equal, is_equal, put_foreign
from tests.servers.cluster import RunningCluster

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAME = "redis-8.2"


def follows(worker: Worker) -> None:
    worker.wait_for(lambda it: it["state"] == "stream", "the stream")


@pytest.mark.parametrize(
    ("target_name", "options"),
    [("valkey-8.1", ()), (NAME, ("--delivery=at-least-once",))],
    ids=["foreign", "at-least-once"],
)
def test_a_selection_is_equal_after_a_stop(
    target_name: str, options: tuple[str, ...], start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server(NAME, config=CONFIG), start_server(target_name, config=CONFIG)
    put_foreign(target)
    with SelectedLoad(source, seed=7) as load:
        load.has_written(2000)
        with Worker(source.url, target.url, tmp_path, *OPTIONS, *options) as worker:
            worker.start()
            follows(worker)
            load.has_written(1500)
            assert worker.stop() == 130
            load.has_written(300)
            worker.start()
            follows(worker)
            load.has_written(1000)
            load.stop()
            ends_equal(worker, source, target)
            assert worker.totals["full_resyncs"] == 1
            assert worker.stop() == 130


def test_another_snapshot_removes_what_is_gone_under_its_name_at_the_target(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(NAME, config={**CONFIG, "repl-backlog-size": "16kb"})
    target = start_server(NAME, config=CONFIG)
    put_foreign(target)
    with source.client() as client, Worker(source.url, target.url, tmp_path, *OPTIONS) as worker:
        client.mset({f"app:str:{number}": "x" for number in range(100)})
        worker.start()
        follows(worker)
        worker.applies(offset_of(source))
        assert worker.stop() == 130
        client.delete(*(f"app:str:{number}" for number in range(40)))
        client.set("other:long", "x" * 1_000_000)
        client.delete("other:long")
        client.set("app:str:200", "x")
        worker.start()
        follows(worker)
        ends_equal(worker, source, target)
        assert worker.totals["full_resyncs"] == 2
        assert worker.totals["leftovers_removed"] == 40
        assert worker.stop() == 130


def test_what_is_left_out_for_long_moves_the_checkpoint(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server(NAME, config=CONFIG), start_server(NAME, config=CONFIG)
    with source.client() as client, target.client() as at_target:
        with Worker(
            source.url, target.url, tmp_path, "--include-key=app:*", "--spool-disk-gb=0"
        ) as worker:
            worker.start()
            follows(worker)
            before = offset_of(source)
            for number in range(40):
                client.set(f"other:{number % 3}", "x" * 50_000)
            worker.applies(offset_of(source))
            (key,) = at_target.keys("redis-ferry:checkpoint:*")
            holds(
                lambda: int(at_target.hget(key, "offset")) > before + 1_000_000,
                "the checkpoint has moved",
            )
            worker.kill()
            worker.start()
            follows(worker)
            worker.applies(offset_of(source))
            assert worker.totals["full_resyncs"] == 1
            assert worker.stop() == 130
        assert state_of(target) == {}


def test_a_selection_of_a_cluster(start_server: StartServer, tmp_path: Path) -> None:
    target = start_server(NAME, config=CONFIG)
    put_foreign(target)
    options = (
        "--include-key=app:*", "--db-map=0:5", "--key-prefix-strip=app:", "--key-prefix-add=new:",
    )  # fmt: skip
    with RunningCluster(BINARIES[NAME], replicas=0, config=CONFIG) as source:
        client = RedisCluster(host="127.0.0.1", port=source.running[0].server.port)
        for number in range(300):
            client.set(f"app:{number}", number, ex=7200 if number % 2 else None)
            client.set(f"other:{number}", number)

        def is_there() -> bool:
            found = state_of(target)
            for place, value in FOREIGN.items():
                assert found.pop(place) == (b"string", value, -1), place
            nodes = [state_of(it.server, range(1)) for it in source.primaries()]
            return found == {
                (5, b"new:" + key[4:]): value
                for node in nodes
                for (_, key), value in node.items()
                if key.startswith(b"app:")
            }

        with Worker(source.url, target.url, tmp_path, *options) as worker:
            worker.start()
            follows(worker)
            holds(is_there, "the snapshot")
            for number in range(300):
                client.incr(f"app:{number}")
                client.incr(f"other:{number}")
                client.expire(f"app:{number}", 9000)
            holds(is_there, "the stream")
            with source.primaries()[1].server.client() as shard:
                shard.flushall()
            client.set("app:after", "1")
            holds(is_there, "one shard is flushed")
            assert worker.stop() == 130
        client.close()


def test_a_selection_of_a_file(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server(NAME, config=CONFIG)
    target = start_server(NAME, config=CONFIG)
    put_foreign(target)
    with SelectedLoad(source) as load:
        load.has_written(2000)
    with source.client() as client:
        client.save()
    dump = source.directory / "dump.rdb"
    with Worker(f"file:{dump}", target.url, tmp_path, *OPTIONS) as worker:
        worker.start()
        assert worker.wait_for_end() == 0
        assert worker.status["keys_filtered"] > 0
    holds(lambda: is_equal(source, target), "equal")


def test_big_values_of_a_selection_are_built_under_another_name(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server(NAME, config=CONFIG), start_server(NAME, config=CONFIG)
    put_foreign(target)
    rng = random.Random(1)
    for db in (0, 1, 2):
        with source.client(db) as client:
            for side in ("app", "other"):
                client.rpush(f"{side}:list:1", *(rng.randbytes(200) for _ in range(10_000)))
                client.hset(
                    f"{side}:hash:7", mapping={str(it): rng.randbytes(200) for it in range(10_000)}
                )
    with Worker(source.url, target.url, tmp_path, *OPTIONS, "--big-value-mb=1") as worker:
        worker.start("--exit-when-synced")
        assert worker.wait_for_end() == 0
        assert worker.status["big_values"] == 4
        assert worker.status["keys_filtered"] == 8
    assert is_equal(source, target)
