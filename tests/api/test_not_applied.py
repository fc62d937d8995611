"""What the target of a task cannot hold is left out where that is wanted, and listed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from engine.demo.servers import RunningServer
from tests.api.conftest import need
from tests.api.served import ServedWorker, configuration, create, scrape, wait_for, wait_until
from tests.fix_servers import BINARIES

pytestmark = pytest.mark.live

NEW, OLD = "redis-8.2", "redis-6.2"


@pytest.fixture
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWorker]:
    with ServedWorker(tmp_path_factory.mktemp("served"), "--on-unsupported=skip") as served:
        yield served


def test_keys_that_the_target_cannot_hold_are_listed_page_by_page(lenient: ServedWorker) -> None:
    need(NEW)
    need(OLD)
    with (
        RunningServer(BINARIES[NEW], config={"requirepass": "a"}) as source,
        RunningServer(BINARIES[OLD], config={"requirepass": "b"}) as target,
        lenient.client() as client,
    ):
        with source.client() as admin:
            admin.set("plain", "1")
            for number in range(3):
                admin.hset(f"fields:{number}", "a", "1")
                admin.hpexpire(f"fields:{number}", 600_000, "a")
        task_id = create(client)
        path = f"/migration-task/{task_id}/not-applied"
        assert client.get(path).json() == {"not_applied_num": 0, "not_applied": []}
        client.post(f"/migration/{task_id}/task", json=configuration(source, target))
        wait_for(client, task_id, "INCRMIGEATING")

        answer = client.get(path).json()
        assert answer["not_applied_num"] == 3
        assert {it["key"] for it in answer["not_applied"]} == {f"fields:{n}" for n in range(3)}
        assert all(it["db"] == 0 and it["why"] for it in answer["not_applied"])
        page: httpx.Response = client.get(path, params={"offset": 2, "limit": 5})
        assert page.json()["not_applied"] == answer["not_applied"][2:]
        with target.client() as reader:
            assert reader.keys("[pf]*") == [b"plain"]
        with source.client() as admin:
            admin.hset("plain:hash", "a", "1")
            admin.hpexpire("plain:hash", 600_000, "a")
        series = f'redis_ferry_not_applied_total{{task="{task_id}",line="0",kind="%s"}} %d\n'
        wait_until(
            lambda: series % ("command HPEXPIREAT", 1) in scrape(lenient.address),
            "the command is counted",
        )
        assert 'kind="hash with field TTLs' in scrape(lenient.address)
        client.post(f"/migration-task/{task_id}/sync-stop")
