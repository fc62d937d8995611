"""Which call is allowed in which status, and what many calls at once do to a task."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from engine.demo.servers import RunningServer
from tests.api.served import (
    ServedWorker,
    configuration,
    create,
    show,
    side,
    start_task,
    wait_for,
    wait_until,
)
from tests.fix_servers import StartServer

pytestmark = pytest.mark.live
SEED = 20261124


def call(client: httpx.Client, name: str, task_id: str, source: Any, target: Any) -> str | None:
    """Make one call; returns its error code, None if it was carried out."""
    one = {"migration_tasks": [task_id]}
    task = f"/migration-task/{task_id}"
    match name:
        case "configure":
            body: Any = configuration(source, target)
            answer = client.post(f"/migration/{task_id}/task", json=body)
        case "update":
            answer = client.put(task, json={"resume_mode": "auto"})
        case "limit":
            answer = client.put(f"{task}/bandwidth-limit", json={"bandwidth_limit_mb": 50})
        case "stop" | "sync-stop" | "exchange-ip" | "rollback-ip":
            answer = client.post(f"{task}/{name}")
        case "batch-stop":
            answer = client.post("/migration-task/batch-stop", json=one)
        case "batch-restart":
            answer = client.post("/migration-tasks/batch-restart", json=one)
        case "delete":
            ids = {"task_id_list": [task_id]}
            answer = client.request("DELETE", "/migration-tasks/delete", json=ids)
        case "stats" | "logs" | "lines":
            answer = client.get(f"{task}/{name}")
        case _:
            answer = client.get(task)
    assert answer.status_code in (200, 204, 400), (name, answer.text)
    if not answer.content:
        return None
    found = answer.json()
    if "migration_tasks" in found:
        return found["migration_tasks"][0]["error_code"]  # type: ignore[no-any-return]
    return found.get("error_code")  # type: ignore[no-any-return]


FORBIDDEN = "DCS.4957"
NEVER_CONFIGURED = (
    "stop",
    "sync-stop",
    "batch-stop",
    "batch-restart",
    "exchange-ip",
    "rollback-ip",
    "limit",
)
AT_WORK = ("configure", "batch-restart", "delete", "rollback-ip")
AT_REST = ("stop", "sync-stop", "batch-stop", "exchange-ip", "rollback-ip")


def test_the_table_of_calls_and_statuses(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int
) -> None:
    def refused(names: tuple[str, ...], status: str) -> None:
        found = {name: call(client, name, task_id, source, target) for name in names}
        assert found == dict.fromkeys(names, FORBIDDEN)
        assert show(client, task_id)["status"] == status

    task_id = create(client)
    refused(NEVER_CONFIGURED, "RUNNING")
    assert call(client, "update", task_id, source, target) is None

    assert call(client, "configure", task_id, source, target) is None
    wait_for(client, task_id, "INCRMIGEATING")
    refused(AT_WORK, "INCRMIGEATING")
    assert call(client, "update", task_id, source, target) is None
    assert call(client, "limit", task_id, source, target) is None
    assert show(client, task_id)["bandwidth_limit_mb"] == "50"

    assert call(client, "stop", task_id, source, target) is None
    ended = wait_for(client, task_id, "TERMINATED")
    assert ended["updated_at"] is not None
    refused(AT_REST, "TERMINATED")

    assert call(client, "batch-restart", task_id, source, target) is None
    wait_for(client, task_id, "INCRMIGEATING")
    assert call(client, "sync-stop", task_id, source, target) is None
    assert show(client, task_id)["status"] == "TERMINATED"

    full = configuration(source, target, migration_method="full_amount_migration")
    assert client.post(f"/migration/{task_id}/task", json=full).status_code == 200
    wait_for(client, task_id, "SUCCESS")
    refused((*AT_REST, "limit"), "SUCCESS")
    assert call(client, "batch-restart", task_id, source, target) is None
    wait_for(client, task_id, "SUCCESS")
    assert call(client, "delete", task_id, source, target) is None
    assert call(client, "show", task_id, source, target) == "DCS.4133"
    with target.client() as reader:
        wait_until(lambda: not reader.keys("redis-ferry:*"), "nothing of the task is left")


def test_a_wrong_password_is_refused_at_once(
    client: httpx.Client, source: RunningServer, target: RunningServer
) -> None:
    task_id = create(client)
    for name, server in (("source_instance", source), ("target_instance", target)):
        for password in ("wrong", None):
            body = configuration(source, target, **{name: side(server) | {"password": password}})
            answer = client.post(f"/migration/{task_id}/task", json=body)
            assert answer.status_code == 400
            assert answer.json()["error_code"] == "DCS.4080"
    assert show(client, task_id)["status"] == "RUNNING"


def test_a_server_that_does_not_answer_ends_in_migration_failed(
    client: httpx.Client, target: RunningServer
) -> None:
    task_id = create(client)
    body = configuration(target, target, source_instance={"addrs": "127.0.0.1:1"})

    answer = client.post(f"/migration/{task_id}/task", json=body)
    assert answer.json()["status"] == "FULLMIGRATING"
    failed = wait_for(client, task_id, "MIGRATION_FAILED")

    assert "cannot connect to the source 127.0.0.1:1" in failed["error_message"]
    logs = client.get(f"/migration-task/{task_id}/logs?log_level=ERROR").json()
    assert logs["migration_logs"][0]["log_code"] == "task.failed"
    listed = client.get("/migration-tasks?limit=1000").json()["migration_tasks"]
    (row,) = [it for it in listed if it["task_id"] == task_id]
    assert row["error_message"] == failed["error_message"]


def test_several_servers_that_are_no_cluster_are_refused_with_a_reason(
    client: httpx.Client, source: RunningServer, target: RunningServer
) -> None:
    body = configuration(source, target)
    body["source_instance"]["addrs"] += f",127.0.0.1:{target.port}"
    answer = client.post(f"/migration/{create(client)}/task", json=body)

    assert answer.json()["error_code"] == "DCS.4063"
    assert "source_instance.addrs" in answer.json()["error_msg"]
    assert "no cluster" in answer.json()["error_msg"]


def test_the_same_pair_is_not_migrated_twice_at_once(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int
) -> None:
    first = start_task(client, source, target)
    wait_for(client, first, "INCRMIGEATING")
    second = create(client)

    answer = client.post(f"/migration/{second}/task", json=configuration(source, target))

    assert (answer.status_code, answer.json()["error_code"]) == (400, "DCS.4017")
    client.post(f"/migration-task/{first}/sync-stop")
    assert client.post(f"/migration/{second}/task", json=configuration(source, target)).is_success
    wait_for(client, second, "INCRMIGEATING")
    assert call(client, "batch-restart", first, source, target) == "DCS.4017"
    client.post(f"/migration-task/{second}/sync-stop")


def test_connectivity_says_whether_a_server_lets_us_in(
    client: httpx.Client, source: RunningServer
) -> None:
    path = f"/migration/{create(client)}/connectivity"

    assert client.post(path, json=side(source)).status_code == 204
    answer = client.post(path, json=side(source) | {"password": "wrong"})
    assert answer.json()["error_code"] == "DCS.4080"
    answer = client.post(path, json={"addrs": "127.0.0.1:1"})
    assert answer.json()["error_code"] == "DCS.4049"
    answer = client.post(path, json={"addrs": "nonsense"})
    assert answer.json()["error_msg"] == "Invalid addrs parameter in the request."
    assert client.post(path, json={}).json()["error_code"] == "DCS.4063"


def test_manual_mode_ends_in_failure_on_a_lost_link_and_restart_resumes(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int
) -> None:
    task_id = start_task(client, source, target, resume_mode="manual")
    wait_for(client, task_id, "INCRMIGEATING")
    with source.client() as killer:
        killer.execute_command("CLIENT", "KILL", "TYPE", "replica")

    failed = wait_for(client, task_id, "MIGRATION_FAILED")

    assert failed["error_message"]
    with source.client() as writer:
        writer.set("while-away", "1")
    assert call(client, "batch-restart", task_id, source, target) is None
    wait_for(client, task_id, "INCRMIGEATING")
    codes = [
        it["log_code"]
        for it in client.get(f"/migration-task/{task_id}/logs?limit=100").json()["migration_logs"]
    ]
    assert codes.count("psync.partial_resync") == 1
    with target.client() as reader:
        wait_until(lambda: reader.get("while-away"), "the write arrives")
    client.post(f"/migration-task/{task_id}/sync-stop")


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_the_resume_mode_can_be_changed_while_it_runs(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int, mode: str
) -> None:
    other = {"auto": "manual", "manual": "auto"}[mode]
    task_id = start_task(client, source, target, resume_mode=other)
    wait_for(client, task_id, "INCRMIGEATING")
    client.put(f"/migration-task/{task_id}", json={"resume_mode": mode})
    with source.client() as killer:
        killer.execute_command("CLIENT", "KILL", "TYPE", "replica")

    if mode == "manual":
        assert wait_for(client, task_id, "MIGRATION_FAILED")["error_message"]
    else:

        def is_back() -> bool:
            logs = client.get(f"/migration-task/{task_id}/logs?limit=100").json()
            return "psync.partial_resync" in [it["log_code"] for it in logs["migration_logs"]]

        wait_until(is_back, "it has resumed by itself")
        wait_for(client, task_id, "INCRMIGEATING")
        client.post(f"/migration-task/{task_id}/sync-stop")


def test_manual_mode_set_while_a_server_is_away_ends_the_waiting(
    client: httpx.Client, start_server: StartServer, target: RunningServer
) -> None:
    gone = start_server("redis-8.2")
    task_id = start_task(client, gone, target)
    wait_for(client, task_id, "INCRMIGEATING")
    gone.kill()

    def is_waiting() -> bool:
        (line,) = client.get(f"/migration-task/{task_id}/lines").json()["lines"]
        return bool(line["status"]["state"] == "recovering")

    wait_until(is_waiting, "the engine waits for the source")
    assert show(client, task_id)["status"] == "INCRMIGEATING"
    client.put(f"/migration-task/{task_id}", json={"resume_mode": "manual"})

    assert str(gone.port) in wait_for(client, task_id, "MIGRATION_FAILED")["error_message"]


def test_calls_from_many_sides_at_once_cannot_break_a_task(
    worker: ServedWorker, source: RunningServer, target: RunningServer, filled: int
) -> None:
    names = [
        "configure", "update", "limit", "stop", "sync-stop", "batch-stop", "batch-restart",
        "exchange-ip", "rollback-ip", "show", "stats", "logs", "lines",
    ]  # fmt: skip
    with worker.client() as client:
        task_id = start_task(client, source, target)

    def hammer(seed: int) -> list[str | None]:
        rng = random.Random(SEED + seed)
        with worker.client() as client:
            return [call(client, rng.choice(names), task_id, source, target) for _ in range(60)]

    with ThreadPoolExecutor(8) as pool:
        codes = {code for found in pool.map(hammer, range(8)) for code in found}

    assert None in codes
    assert codes <= {None, FORBIDDEN}
    with worker.client() as client:
        # Whatever came last, the task can be brought to work, and the data is right.
        ended = wait_for(client, task_id, "TERMINATED", "INCRMIGEATING", "MIGRATION_FAILED")
        if ended["status"] != "INCRMIGEATING":
            assert ended["status"] == "TERMINATED", ended
            assert call(client, "batch-restart", task_id, source, target) is None
            wait_for(client, task_id, "INCRMIGEATING")
        with source.client() as writer, target.client() as reader:
            writer.set("after-the-hammer", "1")
            wait_until(lambda: reader.get("after-the-hammer"), "writes still arrive")
            assert reader.dbsize() == filled + 2  # and the checkpoint
        assert call(client, "sync-stop", task_id, source, target) is None
        assert call(client, "delete", task_id, source, target) is None
    assert "Traceback" not in worker.log
    assert "internal_error" not in worker.log
