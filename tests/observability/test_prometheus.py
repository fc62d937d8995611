"""A real Prometheus scrapes a real worker that migrates between real servers."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import httpx
import pytest

from tests.api.served import ServedWorker, scrape, start_task, wait_for, wait_until
from tests.control.command_line import run, start
from tests.fix_prometheus import RunningPrometheus, program
from tests.fix_servers import StartServer

pytestmark = pytest.mark.live
COUNT = 2000


def test_prometheus_sees_a_migration_from_its_start_to_a_lag_of_zero_and_its_end(
    start_server: StartServer, tmp_path: Path
) -> None:
    program("prometheus")
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    with source.client() as writer:
        writer.mset({f"key:{number}": number for number in range(COUNT)})
        with ServedWorker(tmp_path) as worker, worker.client() as client:
            (tmp_path / "prometheus").mkdir()
            with RunningPrometheus(tmp_path / "prometheus", worker.address) as prometheus:
                task = start_task(client, source, target)
                wait_for(client, task, "INCRMIGEATING")
                for number in range(COUNT):
                    writer.incr(f"counter:{number % 7}")

                def of(name: str, more: str = "") -> float | None:
                    return prometheus.value(f'redis_ferry_{name}{{task="{task}"{more}}}')

                wait_until(lambda: (of("applied_commands_total") or 0) >= COUNT, "commands")
                wait_until(lambda: of("lag_bytes") == 0, "a lag of 0 bytes")
                wait_until(lambda: of("task_state", ',state="stream"') == 1, "the state")
                assert of("applied_keys_total") == COUNT
                assert of("link_up", ',side="target"') == 1
                assert of("resyncs_total", ',kind="full"') == 1
                assert (of("reply_latency_seconds_count") or 0) > 0
                assert prometheus.value('up{job="redis-ferry"}') == 1

                source_port = source.port
                source.kill()
                wait_until(lambda: of("link_up", ',side="source"') == 0, "the source is down")
                assert source.port == source_port
                source.start()
                # Its data is gone with it, and so its history: a snapshot where the stream should have gone on.
                wait_until(lambda: of("resyncs_total", ',kind="full_forced"') == 1, "a full resync")
                wait_until(
                    lambda: (of("reconnects_total", ',side="source"') or 0) >= 1, "reconnect"
                )

                client.post(f"/migration-task/{task}/stop")
                wait_for(client, task, "TERMINATED")
                assert f'redis_ferry_task_state{{task="{task}",state="stopped"}} 1' in scrape(
                    worker.address
                )
                client.request("DELETE", "/migration-tasks/delete", json={"task_id_list": [task]})
                assert task not in scrape(worker.address)
                wait_until(
                    lambda: not prometheus.query(f'{{__name__=~"redis_ferry.*",task="{task}"}}'),
                    "the task's series are stale",
                )
                groups = prometheus.get("/api/v1/rules")["groups"]
                assert [
                    it for group in groups for it in group["rules"] if it["health"] != "ok"
                ] == []


def test_sync_serves_metrics_while_it_runs(start_server: StartServer, tmp_path: Path) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    with source.client() as writer:
        writer.mset({f"key:{number}": number for number in range(COUNT)})
        worker = start(
            "sync", source.url, target.url, "--metrics-listen", "127.0.0.1:0", "--task-id", "seen",
            "--spool-dir", str(tmp_path), "--log-level", "info", "--progress", "none",
        )  # fmt: skip
        try:
            assert worker.stderr is not None
            line = next(it for it in worker.stderr if "metrics.listening" in it)
            found = re.search(r"address=(\S+)", line)
            assert found is not None
            address = found[1]
            wait_until(
                lambda: 'redis_ferry_task_state{task="seen",state="stream"} 1' in scrape(address),
                "the stream",
            )
            writer.set("last", "one")
            wait_until(
                lambda: (
                    'redis_ferry_applied_commands_total{task="seen",line="0"} 1\n'
                    in scrape(address)
                ),
                "the command",
            )
            text = scrape(address)
            assert f'redis_ferry_applied_keys_total{{task="seen",line="0"}} {COUNT}\n' in text
            assert "redis_ferry_event_loop_delay_seconds_count " in text
            assert httpx.get(f"http://{address}/", trust_env=False).status_code == 404
        finally:
            worker.terminate()
            worker.communicate(timeout=30)
    assert worker.returncode == 130
    with pytest.raises(httpx.ConnectError):
        scrape(address)


def test_an_address_that_is_taken_ends_with_a_remedy_before_anything_is_done(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(
            "sync", source.url, target.url, "--metrics-listen", address, "--spool-dir", str(tmp_path)
        )  # fmt: skip

    assert done.returncode == 2
    assert address in done.stderr
    assert "--metrics-listen" in done.stderr
    with target.client() as client:
        assert client.dbsize() == 0


def test_a_bad_address_is_refused() -> None:
    done = run("sync", "redis://a:1", "redis://b:1", "--metrics-listen", "9121")

    assert done.returncode == 2
    assert "--metrics-listen" in done.stderr
    assert "host:port" in done.stderr
