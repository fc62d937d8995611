"""A task of the service whose source refuses PSYNC, through a restart of the service."""

from __future__ import annotations

from pathlib import Path

from engine.demo.compare import compare
from tests.api.served import ServedWorker, start_task, wait_for, wait_until
from tests.fix_servers import StartServer


def test_a_source_without_psync_is_followed_and_again_after_a_restart(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = start_server(
        "redis-8.2", config={"notify-keyspace-events": "EA", "rename-command": ("PSYNC", "")}
    )
    target = start_server("redis-8.2")
    with source.client() as writer:
        writer.mset({f"k{number}": number for number in range(500)})
    served = ServedWorker(tmp_path, "--source-reader", "auto")
    with served:
        with served.client() as client:
            task_id = start_task(client, source, target)
            wait_for(client, task_id, "INCRMIGEATING")
        served.kill()
        with source.client() as writer:
            writer.delete("k1")
            writer.rpush("list", 1)
        served.start()
        with served.client() as client:
            wait_for(client, task_id, "INCRMIGEATING")
            with source.client() as writer:
                writer.rpush("list", 2)
            wait_until(lambda: compare(source.endpoint, target.endpoint).is_equal, "equal data")
    assert "PSYNC" in served.log
    assert "reader.scan" in served.log
