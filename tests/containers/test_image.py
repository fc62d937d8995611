"""The image: built, run as it is meant to be run, and the whole stack of deploy/compose with faults.

Building takes minutes, so these are slow: `pytest -n 0 -m "containers and slow" tests/containers`. REUSE_IMAGES=1 takes the
images that are there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import local_images
from tests.api.served import wait_until
from tests.fix_containers import need_engine
from tests.fix_servers import BINARIES

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
ADDED_BYTES = 120 * 10**6
PORTS = {"API_PORT": "18000", "PROMETHEUS_PORT": "19090"}
TOKEN = "a-token-for-this-demo"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    """The worker's image, made here of a base that is made here."""
    engine = need_engine()
    tags = {tag for it in engine.images.list() for tag in it.tags}
    if "REUSE_IMAGES" in os.environ and local_images.WORKER in tags:
        return local_images.WORKER
    try:
        local_images.make_base()
    except local_images.ImageError as error:
        pytest.skip(str(error))
    return local_images.make_worker()


def test_the_image_is_small_labelled_and_for_no_root(image: str) -> None:
    (base,), (made,) = (json.loads(docker("inspect", it)) for it in (local_images.BASE, image))

    assert made["Size"] - base["Size"] < ADDED_BYTES
    config = made["Config"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"]
    assert "org.opencontainers.image.title" in config["Labels"]
    assert "codec        compiled" in docker("run", "--rm", image, "version")


def test_it_serves_on_a_read_only_root_and_ends_gracefully(image: str) -> None:
    name = f"redis-ferry-test-{uuid.uuid4().hex[:8]}"
    docker(
        "run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", image,
    )  # fmt: skip
    try:
        wait_until(
            lambda: docker("inspect", "-f", "{{.State.Health.Status}}", name) == "healthy",
            "the health check passes",
            deadline_seconds=60,
        )
        docker("stop", "--time", "20", name)
        state = json.loads(docker("inspect", "-f", "{{json .State}}", name))
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
        log = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
        events = [json.loads(it)["event"] for it in log.stderr.splitlines()]
        assert events[-2:] == ["stop.requested", "serve.ended"]
    finally:
        docker("rm", "--force", "--volumes", name)


class Stack:
    """deploy/compose on local images, and what its API and its Prometheus say."""

    def __init__(self) -> None:
        self._environment = os.environ | PORTS | {"KEYS": "20000"}

    def compose(self, *words: str) -> str:
        done = subprocess.run(
            ["docker-compose", "--env-file", "local.env", *words],
            cwd=COMPOSE, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service)

    def value(self, expression: str) -> float | None:
        answer = httpx.get(
            f"http://127.0.0.1:{PORTS['PROMETHEUS_PORT']}/api/v1/query",
            params={"query": f"max({expression})"},
            trust_env=False,
        ).json()
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def tasks(self) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"http://127.0.0.1:{PORTS['API_PORT']}/v2/demo/migration-tasks",
            headers={"X-Auth-Token": TOKEN},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return list(answer.json()["migration_tasks"])

    def comparison(self) -> str:
        program = (
            "from engine.demo.compare import compare; from engine.endpoint import Endpoint; "
            "print(compare(Endpoint(host='source'), Endpoint(host='target')))"
        )
        return docker("exec", self.container("worker"), "python3", "-c", program)


@pytest.fixture
def stack(image: str) -> Iterator[Stack]:
    if shutil.which("docker-compose") is None:
        pytest.skip("no docker-compose on this machine")
    if local_images.STACK_SERVER not in BINARIES:
        pytest.skip(f"no {local_images.STACK_SERVER} on this machine")
    local_images.make_server(local_images.STACK_SERVER)
    try:
        local_images.make_prometheus()
    except local_images.ImageError as error:
        pytest.skip(str(error))
    it = Stack()
    try:
        it.compose("up", "--detach")
        yield it
    finally:
        it.compose("down", "--volumes")


def test_the_stack_migrates_through_faults_and_prometheus_sees_a_lag_of_zero(stack: Stack) -> None:
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

    docker("pause", stack.container("target"))
    wait_until(lambda: (stack.value("redis_ferry_lag_bytes") or 0) > 0, "a lag shows")
    docker("unpause", stack.container("target"))
    before = stack.value("redis_ferry_applied_commands_total") or 0
    catches_up(before + 1000)

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
    wait_until(
        lambda: (
            is_following()
            and stack.value("redis_ferry_lag_bytes") == 0
            and stack.value("redis_ferry_expiries_owed") == 0
        ),
        "all is applied",
        deadline_seconds=120,
    )
    assert ", 0 differences" in stack.comparison(), stack.comparison()
