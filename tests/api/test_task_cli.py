"""`redis-ferry task`: the API from the command line, with a token and with an access key."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from engine.demo.servers import RunningServer
from tests.api.served import ABSENT, ACCESS, PROJECT, SECRET, TOKEN, ServedWorker, show, wait_for
from tests.control import command_line

pytestmark = pytest.mark.live


class Commands:
    """Runs `redis-ferry task …` against a service."""

    def __init__(self, worker: ServedWorker, *, signed: bool = False) -> None:
        self._variables = {
            "REDIS_FERRY_API_ENDPOINT": worker.url,
            "REDIS_FERRY_API_PROJECT": PROJECT,
        }
        if signed:
            self._variables |= {
                "REDIS_FERRY_API_ACCESS_KEY": ACCESS,
                "REDIS_FERRY_API_SECRET_KEY": SECRET,
            }
        else:
            self._variables["REDIS_FERRY_API_TOKEN"] = TOKEN

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return command_line.run("task", *arguments, **self._variables | variables)

    def out(self, *arguments: str, **variables: str) -> str:
        ended = self.run(*arguments, **variables)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""
        return ended.stdout.strip()


def test_a_migration_by_commands(
    worker: ServedWorker,
    client: httpx.Client,
    source: RunningServer,
    target: RunningServer,
    filled: int,
    tmp_path: Path,
) -> None:
    commands = Commands(worker)
    (tmp_path / "old.secret").write_text(f"{source.password}\n")
    task_id = commands.out("create", "by-command")

    assert (
        commands.out(
            "configure", task_id, f"127.0.0.1:{source.port}", target.url,
            "--source-password-file", str(tmp_path / "old.secret"), "--bandwidth-limit-mb", "9",
        )
        == "FULLMIGRATING"
    )  # fmt: skip
    wait_for(client, task_id, "INCRMIGEATING")
    table = commands.out("list", "--name", "by-command").splitlines()
    assert table[0].split() == ["ID", "NAME", "STATUS", "SOURCE", "TARGET", "CREATED"]
    assert table[1].split()[:3] == [task_id, "by-command", "INCRMIGEATING"]
    assert "full_migration_progress  100" in commands.out("stats", task_id)
    commands.out("limit", task_id, "none")
    assert show(client, task_id)["bandwidth_limit_mb"] is None
    commands.out("stop", "--wait", task_id)
    assert "TERMINATED" in commands.out("show", task_id)
    assert (
        json.loads(commands.out("restart", task_id, "--output", "json"))["migration_tasks"][0][
            "result"
        ]
        == "success"
    )
    wait_for(client, task_id, "INCRMIGEATING")

    refused = commands.run("delete", task_id)
    assert refused.returncode == 3
    assert "error: This operation is not allowed" in refused.stderr
    with subprocess.Popen(
        [*command_line_of("task", "watch", task_id, "--output", "json")],
        env=command_line.environment(**commands._variables), stdout=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline()) == {
            "event": "status",
            "status": "INCRMIGEATING",
        }
        commands.out("stop", task_id)
        rest = [json.loads(line) for line in watching.stdout]
        assert watching.wait(10) == 0
    assert rest[-1] == {"event": "status", "status": "TERMINATED"}
    assert "task.status status=TERMINATED" in commands.out("logs", task_id, "--level", "INFO")
    commands.out("delete", task_id)
    gone = commands.run("show", task_id)
    assert (gone.returncode, gone.stdout) == (3, "")
    assert "error: Instance job is not found (DCS.4133)" in gone.stderr


def command_line_of(*arguments: str) -> list[str]:
    import sys

    return [sys.executable, *command_line.COMMAND, *arguments]


def test_an_access_key_signs_the_commands_requests(worker: ServedWorker) -> None:
    commands = Commands(worker, signed=True)

    task_id = commands.out("create", "signed-one", "--description", "ä b")

    found = json.loads(commands.out("list", "--name", "signed-one", "--output", "json"))
    assert [it["task_id"] for it in found["migration_tasks"]] == [task_id]


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["show", ABSENT], 3, "Instance job is not found"),
        (["show", "x"], 3, "Invalid task ID format"),
        (["create", "a"], 3, "Invalid DCS instance name"),
        (["show"], 2, "Missing argument"),
        (["stop", ABSENT], 3, "invalid migration task id"),
        (["configure", ABSENT, "rediss://a", "b:1"], 2, "register it"),
        (["configure", ABSENT, "redis://a", "b:1", "--source-password-file", "absent"], 2, "cannot read"),
        (["list", "--endpoint", "http://127.0.0.1:1"], 3, "cannot reach the service"),
        (["list", "--endpoint", "nonsense"], 2, "--endpoint cannot be nonsense"),
        (["list", "--token-file", "absent"], 2, "cannot read the token file"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_on_stderr(
    worker: ServedWorker, arguments: list[str], status: int, reason: str
) -> None:
    ended = Commands(worker).run(*arguments)

    assert (ended.returncode, ended.stdout) == (status, "")
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_token_names_the_ways_to_give_one(worker: ServedWorker) -> None:
    ended = Commands(worker).run("list", REDIS_FERRY_API_TOKEN="wrong")

    assert ended.returncode == 3
    assert "hint: give a token with --token-file or REDIS_FERRY_API_TOKEN" in ended.stderr


def test_a_failed_task_ends_the_watch_with_4(worker: ServedWorker, client: httpx.Client) -> None:
    commands = Commands(worker)
    task_id = commands.out("create", "will-fail")
    commands.out("configure", task_id, "127.0.0.1:1", "127.0.0.1:2")
    wait_for(client, task_id, "MIGRATION_FAILED")

    ended = commands.run("watch", task_id)

    assert (ended.returncode, ended.stdout) == (4, "MIGRATION_FAILED\n")
    assert "error: cannot connect to the" in ended.stderr
