"""`tasks` as a program: what it shows, changes and removes on real servers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from engine.checkpoint.checkpoint import checkpoint_key
from engine.control.control_socket import socket_path
from engine.demo.servers import RunningServer
from tests.control import command_line
from tests.control.live_line import Line
from tests.live.test_acl import documented, permit

pytestmark = pytest.mark.live

MIB = 1024 * 1024
KEYS = [checkpoint_key("t1", "0")]


def checkpoints(target: RunningServer) -> list[bytes]:
    with target.client() as client:
        return list(client.keys("redis-ferry:*"))


def test_a_task_is_seen_changed_stopped_and_forgotten(line: Line) -> None:
    with line.source.client() as client:
        client.set("k", 1)
    with line.syncing("--bandwidth-limit-mb", "9") as child:
        child.streams()

        (listed,) = line.tasks("list")
        assert (listed["task_id"], listed["is_running"], listed["state"]) == ("t1", True, "stream")
        assert (listed["pid"], listed["bandwidth_limit_mb"]) == (child.process.pid, 9)
        assert listed["folder"]["path"] == str(line.folder)

        refused = line.on_tasks("forget", "t1", "--yes")
        assert refused.returncode == 3
        assert f"runs in process {child.process.pid}" in refused.stderr
        assert "tasks stop t1" in refused.stderr
        # From another machine, with another folder: the target tells.
        elsewhere = line.run(
            "tasks", "forget", "t1", "--yes", "--target", line.target.url, "--spool-dir", "/nowhere"
        )
        assert elsewhere.returncode == 3
        assert "connections to the target" in elsewhere.stderr
        assert checkpoints(line.target) == KEYS

        shown = line.tasks("show", "t1", on_target=True)
        assert shown["status"]["state"] == "stream"
        assert shown["checkpoints"][0]["phase"] == "stream"

        stopped = line.on_tasks("stop", "t1")
        assert stopped.returncode == 0
        assert child.process.wait(timeout=20) == 130

    text = line.on_tasks("list", on_target=True).stdout
    (row,) = [it for it in text.splitlines() if it.startswith("t1 ")]
    assert "does not run" in row
    assert "stream " in row
    assert "run 1" in row

    declined = line.on_tasks("forget", "t1", on_target=True, typed="n\n")
    assert declined.returncode == 130
    assert checkpoints(line.target) == KEYS
    unasked = line.on_tasks("forget", "t1", on_target=True)
    assert unasked.returncode == 2
    assert "--yes" in unasked.stderr
    confirmed = line.on_tasks("forget", "t1", on_target=True, typed="y\n")
    assert confirmed.returncode == 0
    assert (
        f"removed redis-ferry:checkpoint:{{t1}}:0 on {line.target.endpoint.address}"
        in confirmed.stdout
    )
    assert checkpoints(line.target) == []
    assert line.tasks("list", on_target=True) == []


def test_a_limit_changed_while_it_runs_changes_the_rate(line: Line) -> None:
    with line.source.client() as client:
        for number in range(120):
            client.set(f"k:{number}", os.urandom(MIB // 2))
    with line.syncing("--bandwidth-limit-mb", "2") as child:
        child.until(lambda it: it["bytes_applied"] > 0, "the first bytes")
        slow = child.rate_over(2.5)
        changed = line.on_tasks("set", "t1", "--bandwidth-limit-mb", "10")
        fast = child.rate_over(2.5)
        lifted = line.on_tasks("set", "t1", "--bandwidth-limit-mb", "none")
        child.streams()

    assert changed.returncode == lifted.returncode == 0
    assert "at most 10 MB/s" in changed.stdout
    assert "no limit" in lifted.stdout
    assert 3 < fast / slow < 8, (slow, fast)


def test_what_a_killed_task_leaves_is_listed_taken_over_and_removed(line: Line) -> None:
    with line.syncing() as child:
        child.streams()
        os.kill(child.process.pid, signal.SIGKILL)
        child.process.wait()
    (line.folder / "line-0").mkdir(exist_ok=True)
    (line.folder / "line-0" / "segment").write_bytes(b"x" * 123_456)

    (listed,) = line.tasks("list", on_target=True)
    assert listed["is_running"] is False
    assert listed["folder"]["size_bytes"] >= 123_456
    assert listed["checkpoints"][0]["phase"] == "stream"
    with line.syncing() as child:
        child.streams()
        (listed,) = line.tasks("list")
        assert listed["is_running"] is True
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(timeout=20) == 130

    removed = line.tasks("forget", "t1", "--yes", on_target=True)["removed"]

    assert len(removed) == 2
    assert not line.folder.exists()
    assert not socket_path(line.folder).exists()
    assert checkpoints(line.target) == []


def test_forget_touches_no_file_that_is_not_a_tasks(line: Line) -> None:
    line.folder.mkdir(parents=True)
    (line.folder / "thesis.txt").touch()
    with line.target.client() as client:
        client.hset(KEYS[0], "format", "1")

    result = line.on_tasks("forget", "t1", "--yes", on_target=True)

    assert result.returncode == 2
    assert "thesis.txt" in result.stderr
    assert (line.folder / "thesis.txt").exists()
    assert checkpoints(line.target) == KEYS


def test_every_checkpoint_of_the_target_is_listed_readable_or_not(line: Line) -> None:
    with line.target.client() as client:
        # More keys than one step of the search takes.
        client.mset({f"k:{number}": 1 for number in range(30_000)})
        client.hset(
            "redis-ferry:checkpoint:{a}:0",
            mapping={
                "format": 1,
                "phase": "stream",
                "epoch": 2,
                "replid": "f" * 40,
                "offset": 77,
                "db": 3,
                "new": "field",
            },
        )
        client.hset("redis-ferry:checkpoint:{b}:0", mapping={"format": 99})
        client.set("redis-ferry:checkpoint:{c}:0", "text")
        client.set("redis-ferry:checkpoint:other", "text")  # fmt: skip

    listed = {it["task_id"]: it["checkpoints"][0] for it in line.tasks("list", on_target=True)}

    assert sorted(listed) == ["a", "b", "c"]
    assert (listed["a"]["offset"], listed["a"]["epoch"]) == (77, 2)
    assert listed["a"]["age_seconds"] is not None
    assert "error" in listed["b"]
    assert "error" in listed["c"]
    shown = line.tasks("show", "a", on_target=True)["checkpoints"][0]["fields"]
    assert shown["new"] == "field"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("show", "nothing"), 2, "nothing of a task nothing"),
        (("forget", "nothing", "--yes"), 2, "nothing of a task nothing"),
        (("show", "../../etc"), 2, "not the name of a task"),
        (("forget", "..", "--yes"), 2, "not the name of a task"),
        (("set", "t1", "--bandwidth-limit-mb", "5"), 3, "no task t1 runs"),
        (("set", "t1", "--bandwidth-limit-mb", "0"), 2, "1 to 10240, or none"),
        (("set", "t1", "--bandwidth-limit-mb", "5MB"), 2, "1 to 10240, or none"),
        (("set", "t1"), 2, "--bandwidth-limit-mb"),
        (("stop", "t1"), 3, "no task t1 runs"),
        (("list", "--target", "redis://u:s3cret@127.0.0.1:1"), 3, "cannot connect to the target"),
        (("list", "--target", "redis://u:s3cret@a/0"), 2, "leave /0 out"),
        (("list", "--format", "xml"), 2, "xml"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, tuple) else None,
)
def test_what_cannot_be_done_is_said_with_the_right_status(
    tmp_path: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    result = command_line.run("tasks", *arguments, REDIS_FERRY_SPOOL_DIR=str(tmp_path))

    assert result.returncode == status
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert "s3cret" not in result.stderr


def test_a_target_that_does_not_permit_the_search_is_named(line: Line) -> None:
    endpoint = permit(line.target, [*documented("target"), "-scan"])

    result = line.run("tasks", "list", "--target", f"redis://ferry:password@{endpoint.address}")

    assert result.returncode == 3
    assert "scan" in result.stderr
    assert "+scan" in result.stderr


def test_an_empty_spool_folder_holds_no_tasks(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not-there"):
        result = command_line.run("tasks", "list", "--spool-dir", str(folder))
        assert (result.returncode, result.stdout) == (0, f"no tasks in {folder}\n")


def test_the_help_of_check_and_tasks_teaches() -> None:
    check, tasks = command_line.run("check", "--help"), command_line.run("tasks", "--help")
    setting = command_line.run("tasks", "set", "--help")

    assert "--sample-seconds" in check.stdout
    assert "a refusal: sync would not start" in check.stdout
    for name in ("list", "show", "forget", "set", "stop", "Exit status"):
        assert name in tasks.stdout
    assert "1..10240|none" in setting.stdout
