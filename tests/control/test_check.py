"""`check`, and the check at the start of `sync`, as programs on real servers."""

from __future__ import annotations

import json

import pytest

from tests.control import command_line
from tests.control.live_line import Line
from tests.fix_servers import StartServer
from tests.live.test_acl import documented, permit

pytestmark = pytest.mark.live


def test_check_prints_a_line_each_and_ends_with_0_despite_warnings(line: Line) -> None:
    with line.target.client() as client:
        client.set("k", 1)

    result = line.run("check", line.source.url, line.target.url, "--sample-seconds", "0.2")

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any(it.startswith("ok       source ") for it in lines)
    warned = next(at for at, it in enumerate(lines) if it.startswith("warning  target-keys"))
    assert "-> add to the command: --on-conflict" in lines[warned + 1]
    assert "it can start; read the warnings" in lines[-1]


def test_check_refuses_with_3_also_in_json(line: Line, start_server: StartServer) -> None:
    small = start_server("redis-8.2", config={"databases": 2})
    with line.source.client(5) as client:
        client.set("k", 1)

    result = line.run(
        "check", line.source.url, small.url, "--sample-seconds", "0", "--format", "json"
    )

    found = json.loads(result.stdout)
    assert result.returncode == 3
    assert found["result"] == "refusal"
    (refusal,) = [it for it in found["findings"] if it["level"] == "refusal"]
    assert (refusal["side"], refusal["name"]) == ("target", "databases")


def test_check_says_what_it_cannot_reach_with_3(line: Line) -> None:
    result = line.run("check", "redis://u:s3cret@127.0.0.1:1", line.target.url)

    assert result.returncode == 3
    assert "refusal  source" in result.stdout
    assert "s3cret" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "arguments", [("--sample-seconds", "x"), ("--format", "xml"), ("--spool-disk-gb", "x"), ("c",)]
)
def test_check_with_a_wrong_option_is_2(arguments: tuple[str, ...]) -> None:
    result = command_line.run("check", "redis://a", "redis://b", *arguments)

    assert result.returncode == 2
    assert result.stderr.startswith("error: ")


def test_sync_refuses_before_anything_is_written(line: Line, start_server: StartServer) -> None:
    line.target = start_server("redis-8.2", config={"databases": 2})
    with line.source.client(5) as client:
        client.set("k", 1)

    with line.syncing() as child:
        out, errors = child.process.communicate(timeout=20)

    assert child.process.returncode == 3
    assert json.loads(out.splitlines()[-1])["state"] == "failed"
    assert "preflight.refusal" in errors
    assert "error: target: the source uses database 5, more than the target has (2)\n" in errors
    assert "hint: set in the target's configuration file" in errors
    with line.target.client() as client:
        assert client.info("keyspace") == {}
    assert not line.folder.exists()


def test_sync_logs_warnings_and_runs_with_the_least_permissions(line: Line) -> None:
    with line.source.client() as client, line.target.client() as other:
        client.set("k", 1)
        other.set("old", 1)
    source, target = (
        permit(server, documented(side))
        for side, server in (("source", line.source), ("target", line.target))
    )

    result = line.run(
        "sync", f"redis://ferry:password@{source.address}", f"redis://ferry:password@{target.address}",
        "--method", "full",
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert "preflight.warning" in result.stderr
    assert "name=target-keys" in result.stderr
    assert "remedy=" in result.stderr
    with line.target.client() as other:
        assert other.get("k") == b"1"
