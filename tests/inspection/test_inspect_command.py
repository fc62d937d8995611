"""`redis-ferry inspect` on files and on running servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.control.command_line import run
from tests.corpus_files import open_dumps
from tests.fix_servers import StartServer
from tests.live.sides import CONFIG

DUMP = open_dumps("default", server="redis-8.6.3")[0]


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump.rdb"
    path.write_bytes(DUMP.rdb)
    return path


def test_a_file_is_shown_as_a_table(dump: Path) -> None:
    ended = run("inspect", str(dump))

    assert ended.returncode == 0, ended.stderr
    assert "RDB 13 (redis), written by 8.6.3" in ended.stdout
    assert f"{DUMP.expected['key_count']} keys" in ended.stdout
    assert "hash with field TTLs, listpack" in ended.stdout


def test_stats_are_one_json_object(dump: Path) -> None:
    ended = run("inspect", f"file:{dump}", "--format", "stats", "--top", "3")

    found = json.loads(ended.stdout)
    assert found["keys"] == DUMP.expected["key_count"]
    assert len(found["biggest"]) == len(found["prefixes"]) == 3


def test_the_snapshot_of_an_append_only_file_is_shown_and_what_is_not_is_said(
    dump: Path, tmp_path: Path
) -> None:
    commands = b"*1\r\n$4\r\nPING\r\n" * 100
    joined, plain, folder = tmp_path / "a.aof", tmp_path / "b.aof", tmp_path / "parts"
    joined.write_bytes(DUMP.rdb + commands)
    plain.write_bytes(commands)
    folder.mkdir()
    (folder / "base").write_bytes(DUMP.rdb)
    (folder / "incr").write_bytes(commands)
    (folder / "m.manifest").write_text("file base seq 1 type b\nfile incr seq 1 type i\n")

    for path in (joined, folder):
        ended = run("inspect", str(path))
        assert ended.returncode == 0, ended.stderr
        assert f"{DUMP.expected['key_count']} keys" in ended.stdout
        assert "1.4 KiB of commands follow this snapshot" in ended.stdout
    refused = run("inspect", str(plain))
    assert refused.returncode == 3
    assert "b.aof holds commands only" in refused.stderr


def test_rdbtools_formats_go_to_stdout(dump: Path) -> None:
    dump.write_bytes(open_dumps("tiny", server="redis-8.6.3")[0].rdb)

    ended = run("inspect", str(dump), "--format", "memory")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("database,type,key,size_in_bytes")


def test_a_broken_file_and_a_missing_one_say_so(dump: Path) -> None:
    dump.write_bytes(DUMP.rdb[: len(DUMP.rdb) // 2])

    broken, missing = run("inspect", str(dump)), run("inspect", str(dump) + ".gone")

    assert (broken.returncode, missing.returncode) == (4, 2)
    assert "corrupt RDB at byte" in broken.stderr
    assert "cannot read the dump" in missing.stderr


@pytest.mark.live
@pytest.mark.parametrize("name", ["redis-6.2", "redis-8.2", "valkey-9.1"])
def test_a_server_is_inspected_and_left_as_it_is(name: str, start_server: StartServer) -> None:
    server = start_server(name, config=CONFIG)
    with server.client() as client:
        client.set("user:1", "x", ex=3000)
        client.hset("user:2", mapping={"f": "v"})
        client.xadd("events", {"f": "v"})

    ended = run("inspect", server.url, "--format", "stats")

    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {kind: it["keys"] for kind, it in found["types"].items()} == {
        "string": 1, "hash": 1, "stream": 1,
    }  # fmt: skip
    assert found["ttl"]["under an hour"] == 1
    assert found["written_by"] == server.binary.version
    with server.client() as client:
        assert client.dbsize() == 3
        assert client.info("replication")["connected_slaves"] == 0


@pytest.mark.live
def test_a_server_that_is_away_is_named() -> None:
    ended = run("inspect", "redis://127.0.0.1:1")

    assert ended.returncode == 3
    assert "127.0.0.1:1" in ended.stderr
