"""The whole stack of deploy/compose with faults: a server's data and writes into a cluster, seen through its own Prometheus.

Slow: `pytest -n 0 -m "containers and slow" tests/containers`. Once with each Compose program that is here.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import local_images
from engine.demo.servers import _free_port
from tests.api.served import wait_until
from tests.containers.programs import composes, docker
from tests.fix_containers import engine
from tests.fix_servers import BINARIES
from tests.live.cluster_sides import Elsewhere, differences

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
TOKEN = "a-token-for-this-demo"
TARGETS = ("target-1", "target-2", "target-3")
SERVICES = {"source", "writer", "worker", "prometheus", "cluster", "starter", *TARGETS}


class Stack:
    """The stack on local images under a name of its own, and what its API and its Prometheus say."""

    def __init__(self, compose: list[str]) -> None:
        self.name = f"redis-ferry-test-{uuid.uuid4().hex[:8]}"
        self._compose = compose
        self._ports = {"API_PORT": str(_free_port()), "PROMETHEUS_PORT": str(_free_port())}
        own = {"COMPOSE_PROJECT_NAME": self.name, "KEYS": "20000"}
        self._environment = os.environ | self._ports | own

    def compose(self, *words: str) -> str:
        done = subprocess.run(
            [*self._compose, "--env-file", "local.env", *words],
            cwd=FOLDER, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "-q", service)

    def address(self, service: str, network: str) -> tuple[str, int]:
        networks = json.loads(
            docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", self.container(service))
        )
        return networks[f"{self.name}_{network}"]["IPAddress"], 6379

    def value(self, expression: str) -> float | None:
        answer = httpx.get(
            f"http://127.0.0.1:{self._ports['PROMETHEUS_PORT']}/api/v1/query",
            params={"query": f"max({expression})"},
            trust_env=False,
        ).json()
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def tasks(self) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"http://127.0.0.1:{self._ports['API_PORT']}/v2/demo/migration-tasks",
            headers={"X-Auth-Token": TOKEN},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return list(answer.json()["migration_tasks"])

    def sides(self) -> tuple[Elsewhere, Elsewhere]:
        """Source and target by the addresses that the containers have now."""
        return (
            Elsewhere((self.address("source", "old"),)),
            Elsewhere(tuple(self.address(it, "new") for it in TARGETS)),
        )


@pytest.fixture(params=["1", "2"], ids=["docker-compose-1", "compose-2"])
def stack(image: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    del image
    if request.param not in composes():
        pytest.skip(f"no Compose {request.param} on this machine")
    if local_images.STACK_SERVER not in BINARIES:
        pytest.skip(f"no {local_images.STACK_SERVER} on this machine")
    local_images.make_server(local_images.STACK_SERVER)
    try:
        local_images.make_prometheus()
    except local_images.ImageError as error:
        pytest.skip(str(error))
    it = Stack(composes()[request.param])
    try:
        it.compose("up", "--detach")
        yield it
    finally:
        it.compose("down", "--volumes")
    left = [
        one.name
        for one in engine().containers.list(all=True, ignore_removed=True)
        if it.name in one.name
    ]
    left += [one.name for one in engine().networks.list() if it.name in one.name]
    left += [one.name for one in engine().volumes.list() if it.name in one.name]
    assert left == []


def test_the_stack_migrates_into_a_cluster_through_faults_and_prometheus_sees_a_lag_of_zero(
    stack: Stack,
) -> None:
    def is_following() -> bool:
        return bool(stack.value('redis_ferry_task_state{state="stream"}'))

    def catches_up(commands: float) -> None:
        wait_until(
            lambda: (
                is_following()
                and (stack.value("redis_ferry_applied_commands_total") or 0) > commands
                and stack.value("redis_ferry_lag_bytes") == 0
            ),
            "following, with a lag of 0",
            deadline_seconds=120,
        )

    catches_up(1000)
    assert [it["status"] for it in stack.tasks()] == ["INCRMIGEATING"]
    running = {it for it in SERVICES if stack.container(it)}
    assert running == SERVICES

    node = stack.container("target-2")
    docker("pause", node)
    wait_until(lambda: (stack.value("redis_ferry_lag_bytes") or 0) > 0, "a lag shows")
    docker("unpause", node)
    catches_up((stack.value("redis_ferry_applied_commands_total") or 0) + 1000)

    docker("kill", stack.container("worker"))
    docker("start", stack.container("worker"))
    # Of the new process: its counters begin at 0, and it went on where the killed one was.
    wait_until(
        lambda: stack.value('redis_ferry_resyncs_total{kind="partial"}') == 1,
        "a partial resync",
        deadline_seconds=60,
    )
    assert stack.value('redis_ferry_resyncs_total{kind=~"full.*"}') == 0

    stack.compose("stop", "writer")
    source, target = stack.sides()
    with closing(source.clients()[0]) as client:
        end = client.info("replication")["master_repl_offset"]
    wait_until(
        lambda: (
            is_following()
            and (stack.value("redis_ferry_applied_offset_bytes") or 0) >= end
            and stack.value("redis_ferry_lag_bytes") == 0
            and stack.value("redis_ferry_expiries_owed") == 0
        ),
        "all is applied",
        deadline_seconds=120,
    )
    assert differences(source, target) == []
