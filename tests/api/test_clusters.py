"""Clusters driven through the API: several `addrs`, found by asking one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.crc import key_slot

from engine.demo.servers import RunningServer
from tests.api.conftest import need
from tests.api.served import ServedWorker, configuration, create, wait_for, wait_until
from tests.fix_servers import BINARIES
from tests.live.cluster_sides import checkpoints, differences
from tests.servers.cluster import RunningCluster

pytestmark = pytest.mark.live
NAME = "redis-8.2"
KEYS = 900


def nodes(cluster: RunningCluster) -> dict[str, Any]:
    return {
        "addrs": ",".join(f"127.0.0.1:{it.server.port}" for it in cluster.nodes),
        "password": "",
    }


def stats(client: httpx.Client, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/migration-task/{task_id}/stats").json()
    return found


def test_a_server_goes_into_a_cluster_and_a_cluster_into_a_server(client: httpx.Client) -> None:
    need(NAME)
    binary = BINARIES[NAME]
    with (
        RunningServer(binary) as first,
        RunningCluster(binary, replicas=0) as cluster,
        RunningServer(binary) as last,
    ):
        with first.client() as writer:
            writer.mset({f"key:{number}": number for number in range(KEYS)})
        into = create(client)
        body = configuration(first, first) | {"target_instance": nodes(cluster)}
        assert client.post(f"/migration/{into}/task", json=body).status_code == 200
        wait_for(client, into, "INCRMIGEATING")
        with first.client() as writer:
            writer.append("key:1", "more")
            assert client.get(f"/migration-task/{into}/cross-slot").json() == {
                "cross_slot_num": 0,
                "cross_slot": [],
            }
            writer.rename("key:2", "renamed")
        wait_until(lambda: not differences(first, cluster), "the cluster has all")
        found = client.get(f"/migration-task/{into}/cross-slot").json()
        assert found["cross_slot_num"] == 1
        assert (found["cross_slot"][0]["command"], found["cross_slot"][0]["handled"]) == (
            "RENAME",
            "resolved",
        )
        assert found["cross_slot"][0]["keys"] == ["key:2", "renamed"]
        page = client.get(f"/migration-task/{into}/cross-slot", params={"offset": 1}).json()
        assert page == {"cross_slot_num": 1, "cross_slot": []}
        wait_until(lambda: int(stats(client, into)["target_dbsize"]) >= KEYS, "all shards count")

        out = create(client)
        body = configuration(last, last) | {"source_instance": nodes(cluster)}
        assert client.post(f"/migration/{out}/task", json=body).status_code == 200
        wait_for(client, out, "INCRMIGEATING")
        lines = client.get(f"/migration-task/{out}/lines").json()["lines"]
        assert len(lines) == 3
        wait_until(lambda: last.client().dbsize() >= KEYS, "all lines bring their keys")
        for task_id in (out, into):
            client.post(f"/migration-task/{task_id}/sync-stop")
        client.request("DELETE", "/migration-tasks/delete", json={"task_id_list": [into]})
        wait_until(lambda: not checkpoints(cluster), "no checkpoint is left in any slot")


def test_cluster_options_of_the_service_are_those_of_its_tasks(tmp_path: Path) -> None:
    """Replicas are read, at addresses that the nodes do not announce."""
    need(NAME)
    binary = BINARIES[NAME]
    options = ("--read-from", "replica", "--address-map", "127.0.0.1=localhost")
    with (
        RunningCluster(binary) as cluster,
        RunningServer(binary) as last,
        ServedWorker(tmp_path, *options) as service,
        service.client() as client,
    ):
        for number in range(100):
            node = cluster.primary_of(key_slot(b"key:%d" % number))
            node.ask("SET", b"key:%d" % number, number)
        task_id = create(client)
        body = configuration(last, last) | {"source_instance": nodes(cluster)}
        assert client.post(f"/migration/{task_id}/task", json=body).status_code == 200
        wait_for(client, task_id, "INCRMIGEATING")
        lines = client.get(f"/migration-task/{task_id}/lines").json()["lines"]
        replicas = {f"localhost:{it.port}" for s in cluster.map().shards for it in s.replicas}
        assert {it["source"] for it in lines} == replicas
        wait_until(lambda: not differences(cluster, last), "equal")
