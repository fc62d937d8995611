"""The image: built by both builders, and run as it is meant to be run.

Building takes minutes, so these are slow: `pytest -n 0 -m "containers and slow" tests/containers`. REUSE_IMAGES=1 takes the
images that are there.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest

from deploy import local_images
from tests.api.served import wait_until
from tests.containers.programs import buildkit, docker

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
ADDED_BYTES = 120 * 10**6


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
        docker("stop", "-t", "20", name)
        state = json.loads(docker("inspect", "-f", "{{json .State}}", name))
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
        log = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
        events = [json.loads(it)["event"] for it in log.stderr.splitlines()]
        assert events[-2:] == ["stop.requested", "serve.ended"]
    finally:
        docker("rm", "--force", "--volumes", name)


def test_buildkit_builds_it_as_well(image: str) -> None:
    del image  # only that its base is there
    command = buildkit()
    if command is None:
        pytest.skip("no docker command here can build with BuildKit (plugin buildx)")
    tag = f"redis-ferry-test:{uuid.uuid4().hex[:8]}"
    done = subprocess.run(
        [command, "build", "--build-arg", f"BASE={local_images.BASE}", "--tag", tag, str(ROOT)],
        env=os.environ | {"DOCKER_BUILDKIT": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        assert "exporting layers" in done.stderr  # a step of BuildKit's alone
        assert "codec        compiled" in docker("run", "--rm", tag, "version")
    finally:
        docker("image", "rm", tag)


def test_pid_1_collects_what_others_leave(image: str) -> None:
    name = f"redis-ferry-test-{uuid.uuid4().hex[:8]}"
    docker("run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp", image)
    try:
        docker("exec", name, "sh", "-c", "sleep 0.2 &")
        wait_until(
            lambda: " sleep" not in docker("top", name, "-eo", "pid,stat,comm"),
            "the orphan is gone, not a zombie",
            deadline_seconds=30,
        )
        assert docker("inspect", "-f", "{{.State.Running}}", name) == "true"
    finally:
        docker("rm", "--force", "--volumes", name)
