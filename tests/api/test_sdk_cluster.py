"""The real Huawei SDK moves a server into a cluster and the cluster into a server, signed and with a token."""

from __future__ import annotations

from typing import Any

import pytest

from engine.demo.servers import RunningServer
from tests.api.conftest import need
from tests.api.served import wait_until
from tests.api.test_sdk import client, configure, create, has_status, sdk
from tests.fix_servers import BINARIES
from tests.live.cluster_sides import differences
from tests.servers.cluster import RunningCluster

__all__ = ["client", "sdk"]  # fixtures

pytestmark = pytest.mark.live
NAME = "redis-8.2"
KEYS = 600


def nodes(sdk: Any, cluster: RunningCluster) -> Any:
    addrs = ",".join(f"127.0.0.1:{it.server.port}" for it in cluster.nodes)
    return sdk.ConfigMigrationInstanceBody(addrs=addrs, password="")


def test_into_a_cluster_and_out_of_it(sdk: Any, client: Any) -> None:
    need(NAME)
    binary = BINARIES[NAME]
    with (
        RunningServer(binary) as first,
        RunningCluster(binary, replicas=0) as cluster,
        RunningServer(binary) as last,
    ):
        with first.client() as writer:
            writer.mset({f"key:{number}": number for number in range(KEYS)})
        into = create(sdk, client)
        configure(sdk, client, into, first, first, target_instance=nodes(sdk, cluster))
        wait_until(has_status(sdk, client, into, "INCRMIGEATING"), "the stream into the cluster")
        out = create(sdk, client)
        configure(sdk, client, out, last, last, source_instance=nodes(sdk, cluster))
        wait_until(has_status(sdk, client, out, "INCRMIGEATING"), "the streams out of the cluster")
        with first.client() as writer:
            writer.append("key:1", "more")
        wait_until(lambda: not differences(first, cluster), "the cluster has all")
        wait_until(lambda: not differences(first, last), "the last server has all")
        asked = sdk.ShowMigrationTaskStatsRequest(task_id=out)
        wait_until(
            lambda: int(client.show_migration_task_stats(asked).source_dbsize) >= KEYS,
            "the shards' sizes are summed",
        )
        asked = sdk.ShowMigrationTaskStatsRequest(task_id=into)
        wait_until(
            lambda: int(client.show_migration_task_stats(asked).target_dbsize) == KEYS,
            "checkpoints are no keys of the target",
        )
        for task_id in (out, into):
            client.stop_migration_task(sdk.StopMigrationTaskRequest(task_id=task_id))
            wait_until(has_status(sdk, client, task_id, "TERMINATED"), "it has stopped")
