"""What survives kill -9, a graceful stop, and a look into the files."""

from __future__ import annotations

import random
import sqlite3
import stat
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import SOURCE_CONFIG
from tests.api.served import ServedWorker, create, show, start_task, wait_for, wait_until
from tests.fix_servers import StartServer

pytestmark = pytest.mark.live
KEYS = 3000


def codes_of(client: httpx.Client, task_id: str) -> list[str]:
    """The names of a task's events."""
    logs = client.get(f"/migration-task/{task_id}/logs?limit=1000").json()
    return [it["log_code"] for it in logs["migration_logs"]]


def has_resumed(client: httpx.Client, task_id: str, *, times: int) -> bool:
    return codes_of(client, task_id).count("psync.partial_resync") == times


def test_kill_9_and_start_goes_on_by_itself_and_doubles_nothing(
    tmp_path: Path, start_server: StartServer
) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    target = start_server("redis-8.2")
    rng = random.Random(7)
    with ServedWorker(tmp_path) as worker, source.client() as writer, target.client() as reader:
        writer.mset({f"key:{number}": "x" * 200 for number in range(KEYS)})
        with worker.client() as client:
            task_id = start_task(client, source, target)
            waiting = create(client, "only-made")
            done = start_task(
                client, source, start_server("redis-8.2"), migration_method="full_amount_migration"
            )
            finished = wait_for(client, done, "SUCCESS")
            wait_for(client, task_id, "INCRMIGEATING")
        written = 0
        for round_number in (1, 2):
            # Killed somewhere in the stream of writes that must not be applied twice.
            for _ in range(rng.randrange(200, 400)):
                writer.incr("counter")
                written += 1
            worker.kill()
            for _ in range(100):
                writer.incr("counter")
                written += 1
            worker.start()
            with worker.client() as client:
                wait_until(
                    partial(has_resumed, client, task_id, times=round_number), "it has resumed"
                )
        wait_until(lambda: reader.get("counter") == str(written).encode(), "every write, once")
        with worker.client() as client:
            wait_for(client, task_id, "INCRMIGEATING")
            assert show(client, waiting)["status"] == "RUNNING"
            assert show(client, done) == finished
            assert codes_of(client, task_id).count("psync.full_resync") == 1
            assert client.post(f"/migration-task/{task_id}/sync-stop").status_code == 204


def test_kill_9_in_a_limited_snapshot_starts_it_again_and_finishes(
    tmp_path: Path, start_server: StartServer
) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    target = start_server("redis-8.2")
    with ServedWorker(tmp_path) as worker, source.client() as writer, target.client() as reader:
        for number in range(60):
            writer.set(f"big:{number}", random.Random(number).randbytes(100_000))
        with worker.client() as client:
            task_id = start_task(client, source, target, bandwidth_limit_mb="3")
        wait_until(lambda: reader.dbsize() > 5, "the snapshot is under way")
        worker.kill()
        worker.start()
        with worker.client() as client:
            wait_for(client, task_id, "INCRMIGEATING")
            assert reader.dbsize() == 60 + 1  # and the checkpoint
            client.put(
                f"/migration-task/{task_id}/bandwidth-limit", json={"bandwidth_limit_mb": None}
            )
            assert show(client, task_id)["bandwidth_limit_mb"] is None
        assert worker.stop() == 0
        worker.start()
        with worker.client() as client:
            # A graceful stop of the service is no stop of its tasks.
            wait_for(client, task_id, "INCRMIGEATING")
            writer.set("later", "1")
            wait_until(lambda: reader.get("later"), "it goes on after the restart")


def test_a_service_has_its_folder_alone_and_waits_for_servers_that_are_away(
    tmp_path: Path, start_server: StartServer
) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    target = start_server("redis-8.2", config={"appendonly": "yes", "appendfsync": "always"})
    with ServedWorker(tmp_path) as worker, source.client() as writer:
        writer.set("a", "1")
        with worker.client() as client:
            task_id = start_task(client, source, target)
            wait_for(client, task_id, "INCRMIGEATING")
        second = ServedWorker(tmp_path)
        with pytest.raises(AssertionError, match="another redis-ferry serve uses the state folder"):
            second.start()
        second.stop()
        worker.kill()
        target.kill()
        worker.start()
        with worker.client() as client:
            wait_until(lambda: "target.retry" in worker.log, "it has noticed")
            assert show(client, task_id)["status"] == "INCRMIGEATING"
            writer.set("b", "2")
            target.start()
            with target.client() as reader:
                wait_until(lambda: reader.get("b") == b"2", "it goes on")
            client.post(f"/migration-task/{task_id}/sync-stop")


def test_passwords_are_sealed_at_rest_and_shown_nowhere(
    tmp_path: Path, start_server: StartServer
) -> None:
    secret = "s3cr3t-of-the-source"
    source = start_server("redis-8.2", config=SOURCE_CONFIG | {"requirepass": secret})
    target = start_server("redis-8.2", config={"requirepass": f"{secret}-too"})
    with ServedWorker(tmp_path, "--log-level", "debug") as worker:
        with worker.client() as client:
            task_id = start_task(client, source, target)
            wait_for(client, task_id, "INCRMIGEATING")
            pages = [
                client.get(path).text
                for path in (
                    f"/migration-task/{task_id}",
                    f"/migration-task/{task_id}/logs?limit=1000",
                    f"/migration-task/{task_id}/lines",
                    "/migration-tasks",
                )
            ]
        worker.kill()
        found = b"".join(
            path.read_bytes() for path in worker.state_dir.rglob("*") if path.is_file()
        )
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in worker.state_dir.iterdir()
            if path.is_file()
        }
        assert secret.encode() not in found
        assert secret not in "".join(pages)
        assert secret not in worker.log
        assert modes["secret.key"] == 0o600
        assert {mode & 0o077 for name, mode in modes.items() if name.startswith("service.db")} == {
            0
        }

        # The key makes them readable again, and another one does not.
        worker.start()
        with worker.client() as client:
            wait_for(client, task_id, "INCRMIGEATING")
        worker.stop()
        (worker.state_dir / "secret.key").unlink()
        worker.start()
        with worker.client() as client:
            failed = wait_for(client, task_id, "MIGRATION_FAILED")
            assert "sealed with another key" in failed["error_message"]
            body = {"task_id_list": [task_id]}
            assert client.request("DELETE", "/migration-tasks/delete", json=body).status_code == 200


def test_no_row_is_half_written_when_it_is_killed_among_calls(tmp_path: Path) -> None:
    rng = random.Random(11)
    with ServedWorker(tmp_path) as worker:
        confirmed: set[str] = set()
        for _ in range(2):
            with worker.client() as client:
                deadline = time.monotonic() + rng.uniform(0.2, 0.6)
                while time.monotonic() < deadline:
                    confirmed.add(create(client))
            worker.kill()
            worker.start()
        with worker.client() as client:
            listed = client.get("/migration-tasks?limit=1000").json()
            assert {it["task_id"] for it in listed["migration_tasks"]} >= confirmed
            assert {it["status"] for it in listed["migration_tasks"]} == {"RUNNING"}
        worker.stop()
        with sqlite3.connect(worker.state_dir / "service.db") as database:
            (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
            orphans = database.execute(
                "SELECT count(*) FROM jobs WHERE task_id NOT IN (SELECT task_id FROM tasks)"
            ).fetchone()
        database.close()
        assert (verdict, orphans) == ("ok", (0,))
