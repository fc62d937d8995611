"""The health check of the image, against a real service."""

from __future__ import annotations

import socket
from pathlib import Path

from engine.control.health import is_healthy
from tests.api.served import ServedWorker
from tests.control.command_line import run

PROGRAM = ("-m", "engine.control.health")


def test_a_service_that_answers_is_healthy_and_one_that_ended_is_not(tmp_path: Path) -> None:
    with ServedWorker(tmp_path) as worker:
        assert is_healthy(f"{worker.url}/healthz")
        assert not is_healthy(f"{worker.url}/no-such-page")
        assert run(program=PROGRAM, HEALTH_URL=f"{worker.url}/healthz").returncode == 0
        address = worker.url
    assert not is_healthy(f"{address}/healthz")
    assert run(program=PROGRAM, HEALTH_URL=f"{address}/healthz").returncode == 1


def test_one_that_accepts_and_does_not_answer_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not is_healthy(f"http://127.0.0.1:{silent.getsockname()[1]}/healthz")


def test_other_schemes_are_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("ok")
    assert not is_healthy(file.as_uri())
