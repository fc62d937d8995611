"""A dump file as the source of `sync`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.control.command_line import run
from tests.corpus_files import open_dumps
from tests.fix_servers import StartServer
from tests.live.recorded_state import described
from tests.live.sides import keys_of_ours

pytestmark = pytest.mark.live


@pytest.mark.parametrize("source", ["redis-2.4.18", "redis-8.6.3", "valkey-9.1.2", "keydb-6.3.4"])
@pytest.mark.parametrize("target_name", ["redis-6.2", "valkey-9.1"])
def test_a_dump_is_loaded_and_nothing_of_ours_is_left(
    source: str, target_name: str, start_server: StartServer, tmp_path: Path
) -> None:
    dump = open_dumps("tiny", server=source)[0]
    path = tmp_path / "dump.rdb"
    path.write_bytes(dump.rdb)
    target = start_server(target_name)

    ended = run(
        *("sync", f"file:{path}", target.url, "--field-ttls", "drop", "--progress", "json"),
        *("--spool-dir", str(tmp_path / "spool")),
    )

    assert ended.returncode == 0, ended.stderr
    last = json.loads(ended.stdout.splitlines()[-1])
    assert (last["phase"], last["full_migration_progress"]) == ("done", 100)
    assert last["snapshot_bytes_read"] == dump.expected["rdb"]["size"]
    expected = described(dump.expected["dbs"])
    with target.client() as client:
        assert client.dbsize() == len(expected) == last["keys_applied"]
    assert keys_of_ours(target) == []
    assert f"file:{path}" in ended.stderr


def test_a_file_that_is_no_dump_or_broken_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = start_server("redis-8.2")
    file = open_dumps("default", server="redis-7.2.6")[0].rdb
    wrong, cut, broken = (tmp_path / name for name in ("text.rdb", "cut.rdb", "broken.rdb"))
    wrong.write_bytes(b"hello, world")
    cut.write_bytes(file[:-100])
    broken.write_bytes(file[:-1] + bytes([file[-1] ^ 1]))

    said = {path.name: run("sync", f"file:{path}", target.url) for path in (wrong, cut, broken)}

    assert said["text.rdb"].returncode == 3
    assert "no RDB file" in said["text.rdb"].stderr
    for name in ("cut.rdb", "broken.rdb"):
        assert said[name].returncode == 4, said[name].stderr
        assert "corrupt RDB at byte" in said[name].stderr


def test_a_file_has_no_stream_to_follow(tmp_path: Path) -> None:
    ended = run("sync", f"file:{tmp_path}/d.rdb", "redis://b", "--method", "incremental")

    assert ended.returncode == 2
    assert "--method full" in ended.stderr


def test_check_takes_a_file(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(open_dumps("default", server="redis-7.2.6")[0].rdb)

    ended = run("check", f"file:{path}", start_server("redis-8.2").url, "--sample-seconds", "0")

    assert ended.returncode == 0, ended.stdout + ended.stderr
