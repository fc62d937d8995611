"""What Terraform's provider does with the API, step by step, as its sources show it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from engine.demo.servers import RunningServer
from tests.api.as_terraform import signed
from tests.api.served import PROJECT, VPC, ServedWorker, side, wait_until

pytestmark = pytest.mark.live

# What its waiter takes for an end; everything else it waits on, for half an hour.
TERMINAL = {
    "SUCCESS", "FAILED", "TERMINATED", "INCRMIGEATING", "MIGRATION_FAILED", "RELEASED", "DELETED",
}  # fmt: skip


class Provider:
    """Makes calls as the provider does."""

    def __init__(self, worker: ServedWorker) -> None:
        self._worker = worker

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        content = b"" if body is None else json.dumps(body).encode() + b"\n"
        full = f"/v2/{PROJECT}{path}"
        return signed(self._worker, method=method, path=full, body=content, query=query)

    def do(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        answer = self.call(method, path, body, **query)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def all_tasks(self, **query: Any) -> list[dict[str, Any]]:
        """Page by page, by what came, until an empty array."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.do("GET", "/migration-tasks", offset=len(found), **query)["migration_tasks"]
            assert isinstance(page, list)
            if not page:
                return found
            found += page

    def reaches(self, task_id: str, *statuses: str) -> dict[str, Any]:
        def task() -> Any:
            found = self.do("GET", f"/migration-task/{task_id}")
            if found["status"] in statuses:
                return found
            assert found["status"] not in TERMINAL - {"TERMINATED", "INCRMIGEATING"}, found
            return None

        found: dict[str, Any] = wait_until(task, f"{statuses}")
        return found


def test_a_resource_from_apply_to_destroy(
    worker: ServedWorker, source: RunningServer, target: RunningServer, filled: int
) -> None:
    provider = Provider(worker)
    others = [
        provider.do("POST", "/migration/instance", {"name": f"other-{n}", **VPC}) for n in range(12)
    ]

    # apply: create, poll its job, configure, wait
    made = provider.do("POST", "/migration/instance", {"name": "terraform_test", **VPC})
    task_id = made["instance_id"]
    assert provider.do("GET", f"/jobs/{made['job_id']}")["status"] == "SUCCESS"
    body = {
        "migration_method": "incremental_migration",
        "resume_mode": "auto",
        "bandwidth_limit_mb": "100",
        "source_instance": side(source),
        "target_instance": side(target),
    }
    provider.do("POST", f"/migration/{task_id}/task", body)
    task = provider.reaches(task_id, "SUCCESS", "INCRMIGEATING")
    assert task["bandwidth_limit_mb"] == "100"

    # data sources: lists with and without a page size, by name, logs by level
    ids = {it["task_id"] for it in provider.all_tasks()}
    assert ids >= {task_id, *(it["instance_id"] for it in others)}
    assert {it["task_id"] for it in provider.all_tasks(limit=1000)} == ids
    assert {it["task_name"] for it in provider.all_tasks(name="terraform_test")} == {
        "terraform_test"
    }
    logs = provider.do("GET", f"/migration-task/{task_id}/logs", log_level="INFO", limit=100)
    assert logs["migration_logs"]
    assert {it["log_level"] for it in logs["migration_logs"]} == {"INFO"}

    # update of the resume mode; stop; restart
    provider.do("PUT", f"/migration-task/{task_id}", {"resume_mode": "manual"})
    assert provider.do("GET", f"/migration-task/{task_id}")["resume_mode"] == "manual"
    provider.do("POST", f"/migration-task/{task_id}/stop")
    provider.reaches(task_id, "TERMINATED")
    one = {"migration_tasks": [task_id]}
    assert (
        provider.do("POST", "/migration-tasks/batch-restart", one)["migration_tasks"][0]["result"]
        == "success"
    )
    provider.reaches(task_id, "SUCCESS", "INCRMIGEATING")
    provider.do("POST", "/migration-task/batch-stop", one)
    provider.reaches(task_id, "TERMINATED")

    # update: the same task with another method, then again when it is done
    full = body | {"migration_method": "full_amount_migration"}
    provider.do("POST", f"/migration/{task_id}/task", full)
    provider.reaches(task_id, "SUCCESS")
    provider.do("POST", f"/migration/{task_id}/task", body)
    provider.reaches(task_id, "INCRMIGEATING")

    # destroy: stop, delete, look until it is gone
    provider.do("POST", f"/migration-task/{task_id}/stop")
    provider.reaches(task_id, "TERMINATED")
    deleted = provider.do("DELETE", "/migration-tasks/delete", {"task_id_list": [task_id]})
    assert deleted["task_id_list"][0] == task_id
    assert task_id not in {it["task_id"] for it in provider.all_tasks()}
    answer = provider.call("GET", f"/migration-task/{task_id}")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "DCS.4133")
