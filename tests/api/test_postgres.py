"""A served worker on PostgreSQL: durable through kill -9 of either, and going on while the store is away."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.conftest import SOURCE_CONFIG
from tests.api.served import ServedWorker, create, show, start_task, wait_for, wait_until
from tests.fix_postgres import RunningPostgres
from tests.fix_servers import StartServer

pytestmark = [pytest.mark.live, pytest.mark.postgres]


def test_a_store_on_postgresql_may_go_away_and_come_back(
    tmp_path: Path, start_server: StartServer
) -> None:
    source = start_server("redis-8.2", config=SOURCE_CONFIG)
    target = start_server("redis-8.2")
    with (
        RunningPostgres() as postgres,
        ServedWorker(tmp_path, REDIS_FERRY_SERVE_DATABASE_URL=postgres.url) as worker,
        source.client() as writer,
        target.client() as reader,
    ):
        writer.set("a", "1")
        with worker.client() as client:
            task_id = start_task(client, source, target)
            wait_for(client, task_id, "INCRMIGEATING")
            worker.kill()
            worker.start()
        with worker.client() as client, httpx.Client(base_url=worker.url, trust_env=False) as probe:
            wait_for(client, task_id, "INCRMIGEATING")
            postgres.stop()
            writer.set("b", "2")
            wait_until(lambda: reader.get("b"), "the migration goes on without the store")
            assert show(client, task_id)["status"] == "INCRMIGEATING"
            answer = client.post(f"/migration-task/{task_id}/stop")
            assert (answer.status_code, answer.json()["error_code"]) == (500, "DCS.5000")
            assert show(client, task_id)["status"] == "INCRMIGEATING"
            assert probe.get("/readyz").status_code == 503
            assert probe.get("/healthz").status_code == 200
            postgres.start()
            wait_until(lambda: probe.get("/readyz").is_success, "the store is back")
            create(client)
            second = ServedWorker(tmp_path / "state", REDIS_FERRY_SERVE_DATABASE_URL=postgres.url)
            with pytest.raises(
                AssertionError, match="another redis-ferry serve uses this database"
            ):
                second.start()
            second.stop()
            assert client.post(f"/migration-task/{task_id}/sync-stop").status_code == 204
            assert show(client, task_id)["status"] == "TERMINATED"
        assert "Traceback" not in worker.log
        worker.kill()
        worker.start()
        with worker.client() as client:
            assert show(client, task_id)["status"] == "TERMINATED"
            assert client.get("/migration-tasks").json()["count"] == 2
