"""Append-only files, made by real servers, as the source of `sync`."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.codec.command_text import encode
from engine.demo.compare import compare
from engine.demo.dataset import fill
from engine.demo.servers import RunningServer
from engine.demo.writer import Workload
from engine.readers.file_source import EMPTY_RDB
from tests.control.command_line import run
from tests.faults.worker import Worker
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.sides import has_field_ttls, keys_of_ours
from tests.servers.cluster import RunningCluster

pytestmark = pytest.mark.live

KEYS = 600
COMMANDS = 3000
NO_REWRITE = {"auto-aof-rewrite-percentage": 0, "save": "", "enable-debug-command": "yes"}


def aof_of(server: RunningServer) -> Path:
    """Its append-only file, or the folder of it, after everything has been written to it."""
    with server.client() as client:
        client.config_set("appendfsync", "always")
        client.set("last", "write")
        parts = client.config_get("appenddirname").get("appenddirname")
        return server.directory / (parts or client.config_get("appendfilename")["appendfilename"])


def rewrite(server: RunningServer) -> None:
    with server.client() as client:
        client.bgrewriteaof()
        while (info := client.info("persistence"))["aof_rewrite_in_progress"] or info[
            "aof_rewrite_scheduled"
        ]:
            time.sleep(0.02)


def write(server: RunningServer, commands: int = COMMANDS) -> None:
    """The demo's load: all types, transactions, scripts, several databases, hardly a command that is idempotent."""
    stop = threading.Event()
    workload = Workload(server.endpoint, rate=20_000)
    thread = threading.Thread(target=workload.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 30
    while workload.report.commands < commands and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join()
    assert workload.report.commands >= commands


def renew(server: RunningServer) -> None:
    """Keys whose first expiry is over when the file is read, and which were renewed before it was."""
    with server.client() as client:
        for name, soon in (("renewed", 150), ("made-lasting", 150), ("gone", 50)):
            client.hset(f"expiry:{name}", mapping={"a": 1})
            client.pexpire(f"expiry:{name}", soon)
        client.hset("expiry:renewed", "b", 2)
        client.pexpire("expiry:renewed", 50_000_000)
        client.persist("expiry:made-lasting")
        client.hincrby("expiry:made-lasting", "a", 5)
        if has_field_ttls(server):
            client.hset("expiry:fields", mapping={"soon": 1, "later": 2, "stays": 3})
            client.hpexpire("expiry:fields", 150, "soon")
            client.hpexpire("expiry:fields", 60_000_000, "later")
            client.hpersist("expiry:fields", "soon")
            client.hpexpire("expiry:fields", 70_000_000, "soon")
        while client.exists("expiry:gone"):
            time.sleep(0.02)
        over = time.monotonic() + 0.2  # a moment in time: the first expiries are over
        while time.monotonic() < over:
            time.sleep(0.02)


def sync(source: Path, target: RunningServer, tmp_path: Path, *options: str) -> Any:
    return run(
        *("sync", f"file:{source}", target.url, "--progress", "json"),
        *("--spool-dir", str(tmp_path / "spool"), *options),
    )


CASES = [
    pytest.param("redis-6.2", {"aof-use-rdb-preamble": "no"}, id="6.2-plain"),
    pytest.param("redis-6.2", {"aof-use-rdb-preamble": "yes"}, id="6.2-preamble"),
    pytest.param("redis-8.2", {"aof-timestamp-enabled": "yes"}, id="8.2-parts"),
    pytest.param("redis-8.2", {"aof-use-rdb-preamble": "no"}, id="8.2-parts-plain"),
    pytest.param("valkey-9.1", {"aof-timestamp-enabled": "yes"}, id="valkey-parts"),
]


@pytest.mark.parametrize(("name", "config"), CASES)
def test_the_target_has_what_the_server_has(
    name: str, config: dict[str, str], start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(name, config={"appendonly": "yes", **NO_REWRITE, **config})
    target = start_server(name)
    fill(source.endpoint, KEYS, 5, field_ttls=has_field_ttls(source))
    write(source)
    rewrite(source)
    write(source)
    renew(source)
    path = aof_of(source)

    ended = sync(path, target, tmp_path)

    if config.get("aof-use-rdb-preamble") == "no":
        # A rewrite into commands loses what waits for stream entries that are gone (XCLAIM): what a server loads counts.
        with source.client() as client:
            client.execute_command("DEBUG", "LOADAOF")
    assert ended.returncode == 0, ended.stderr
    last = json.loads(ended.stdout.splitlines()[-1])
    assert last["phase"] == "done"
    assert last["applied_offset"] == last["source_offset"] > 0
    assert (last["full_resyncs"], last["lag_bytes"], last["errors"]) == (1, 0, 0)
    found = compare(source.endpoint, target.endpoint)
    assert found.is_equal, str(found)
    assert keys_of_ours(target) == []


def test_a_killed_worker_goes_on_where_it_was(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server("redis-8.2", config={"appendonly": "yes", **NO_REWRITE})
    target = start_server("redis-8.2")
    fill(source.endpoint, KEYS, 7, field_ttls=True)
    rewrite(source)
    with source.client() as client:
        for number in range(16):
            pipe = client.pipeline(transaction=number % 2 == 0)
            for _ in range(500):
                pipe.rpush("list", "x" * 100).incr("counter").append("text", "y" * 50)
            pipe.execute()
    renew(source)
    path = aof_of(source)
    worker = Worker(f"file:{path}", target.url, tmp_path, "--bandwidth-limit-mb", "1")

    with worker:
        for share in (0.3, 0.7):
            worker.start()
            worker.wait_for(
                lambda it, share=share: (
                    it["phase"] == "stream" and it["applied_offset"] > share * it["source_offset"]
                ),
                f"{share:.0%} of the commands are applied",
            )
            worker.kill()
        assert worker.start().wait_for_end() == 0, worker.messages()

    assert worker.status["phase"] == "done"
    # The first run takes the snapshot; the others find the position in the target, and in the files.
    assert worker.totals["full_resyncs"] == 1
    assert worker.status["resumed"]
    found = compare(source.endpoint, target.endpoint)
    assert found.is_equal, str(found)
    assert keys_of_ours(target) == []


def crafted(folder: Path, tail: bytes = b"") -> Path:
    """A plain file with a transaction, and `tail` behind it."""
    path = folder / "appendonly.aof"
    path.write_bytes(
        resp("SELECT", 3) + resp("RPUSH", "l", "a", "b") + b"#TS:1700000000\r\n" + resp("MULTI")
        + resp("INCR", "n") + resp("INCR", "n") + resp("EXEC") + tail
    )  # fmt: skip
    return path


def resp(*words: object) -> bytes:
    return encode(*(it if isinstance(it, bytes) else str(it) for it in words))


TAILS = {
    "command": resp("RPUSH", "l", "c")[:-3],
    "value": b"*2\r\n$4\r\nINCR\r\n$1000\r\nxxx",
    "header": b"*3\r",
    "annotation": b"#TS:17",
    "transaction": resp("MULTI") + resp("INCR", "n") + resp("DEL", "l"),
    "transaction-command": resp("MULTI") + resp("INCR", "n") + resp("DEL", "l")[:-9],
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_what_is_not_whole_at_the_end_is_left_out_or_refused(
    tail: bytes, start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    path = crafted(tmp_path, tail)

    refused = sync(path, target, tmp_path, "--aof-truncated", "refuse")
    with target.client(3) as client:
        assert client.dbsize() == 0
    ended = sync(path, target, tmp_path)

    whole = len(path.read_bytes()) - len(tail)
    assert refused.returncode == 3, refused.stderr
    assert f"at byte {whole}" in refused.stderr
    assert ended.returncode == 0, ended.stderr
    assert "aof.truncated" in ended.stderr
    assert f"left_out_bytes={len(tail)}" in ended.stderr
    with target.client(3) as client:
        assert client.lrange("l", 0, -1) == [b"a", b"b"]
        assert client.get("n") == b"2"
    assert keys_of_ours(target) == []


@pytest.mark.parametrize(
    "damage", [b"garbage\r\n", b"*-1\r\n", b"*2\r\n$4\r\nINCRx\r\n$1\r\nn\r\n"]
)
def test_damage_in_the_middle_names_file_and_byte_before_anything_is_written(
    damage: bytes, start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    path = crafted(tmp_path, damage + resp("INCR", "n"))
    at = path.read_bytes().index(damage) + (0 if damage[:1] != b"*" or b"-" in damage else 12)

    ended = sync(path, target, tmp_path)

    assert ended.returncode == 3, ended.stderr
    assert "appendonly.aof is damaged at byte" in ended.stderr
    assert f"at byte {at}" in ended.stderr
    with target.client() as client:
        assert client.info("keyspace") == {}


def test_a_folder_is_loaded_by_its_manifest(start_server: StartServer, tmp_path: Path) -> None:
    target = start_server("redis-8.2")
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "a.1.base.aof").write_bytes(resp("SELECT", 2) + resp("SET", "base", 1))
    (folder / "a 2.incr.aof").write_bytes(resp("INCR", "first"))  # no SELECT: database 0 again
    (folder / "a.3.incr.aof").write_bytes(resp("SELECT", 1) + resp("INCR", "second"))
    (folder / "old.aof").write_bytes(b"of no use")
    manifest = folder / "a.manifest"
    manifest.write_text(
        'file a.1.base.aof seq 1 type b\nfile old.aof seq 1 type h\nfile "a 2.incr.aof" seq 2 type i\n'
        "file a.3.incr.aof seq 3 type i startoffset 17\n"
    )

    for number, source in enumerate((folder, manifest)):
        ended = sync(source, target, tmp_path, "--task-id", f"t{number}")
        assert ended.returncode == 0, ended.stderr
        with target.client() as client:
            assert client.get("first") == b"1"
            assert {name: it["keys"] for name, it in client.info("keyspace").items()} == {
                "db0": 1, "db1": 1, "db2": 1,
            }  # fmt: skip
            client.flushall()


def test_what_is_missing_is_said_before_anything_is_written(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    (folder / "a.base.rdb").write_bytes(EMPTY_RDB)
    (folder / "a.cut.aof").write_bytes(resp("INCR", "n")[:-2])
    (folder / "a.last.aof").write_bytes(resp("INCR", "n"))
    said = {"no-manifest": sync(folder, target, tmp_path)}
    for name, text in {
        "missing": "file a.base.rdb seq 1 type b\nfile gone.aof seq 1 type i\n",
        "cut-inside": "file a.cut.aof seq 1 type i\nfile a.last.aof seq 2 type i\n",
        "rdb-inside": "file a.last.aof seq 1 type i\nfile a.base.rdb seq 2 type i\n",
        "path": "file ../x.aof seq 1 type b\n",
        "not-whole": "file a.base.rdb seq 1",
    }.items():
        (folder / "a.manifest").write_text(text)
        said[name] = sync(folder, target, tmp_path)

    words = {
        "no-manifest": "holds no .manifest file", "missing": "gone.aof is missing",
        "cut-inside": "a.cut.aof ends in the middle of a command", "rdb-inside": "is not the first file",
        "path": "a file name with a path in it", "not-whole": "not whole",
    }  # fmt: skip
    for name, ended in said.items():
        assert ended.returncode == 3, (name, ended.stderr)
        assert words[name] in ended.stderr
    with target.client() as client:
        assert client.info("keyspace") == {}


def test_commands_are_not_run_on_a_target_that_holds_keys(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    path = crafted(tmp_path)
    first = sync(path, target, tmp_path)

    again = sync(path, target, tmp_path)

    assert first.returncode == 0, first.stderr
    assert again.returncode == 3, again.stderr
    assert "the target holds 2 keys already" in again.stderr
    with target.client(3) as client:
        assert client.get("n") == b"2"


def test_a_cluster_takes_it_too_and_a_killed_worker_goes_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server("redis-8.2", config={"appendonly": "yes", **NO_REWRITE})
    with RunningCluster(BINARIES["redis-8.2"], replicas=0) as target:
        with ClusterLoad(source, rate=20_000) as load:
            load.has_written(20_000)
        renew(source)
        path = aof_of(source)
        worker = Worker(f"file:{path}", target.url, tmp_path, "--bandwidth-limit-mb", "1")
        with worker:
            worker.start().wait_for(
                lambda it: (
                    it["phase"] == "stream" and it["applied_offset"] > it["source_offset"] / 3
                ),
                "a third is applied",
            )
            worker.kill()
            assert worker.start().wait_for_end() == 0, worker.messages()
        assert worker.totals["full_resyncs"] == 1
        assert differences(source, target) == []
