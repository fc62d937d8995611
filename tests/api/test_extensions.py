"""What is ours beside the DCS calls: live limit, events, lines, instances, exchange hooks, TLS, the graceful end."""

from __future__ import annotations

import json
import random
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from engine.demo.servers import RunningServer
from tests.api.served import (
    PROJECT,
    TOKEN,
    ServedWorker,
    configuration,
    create,
    show,
    side,
    start_task,
    wait_for,
    wait_until,
)

pytestmark = pytest.mark.live


class Listening(threading.Thread):
    """Reads a task's event stream to its end."""

    def __init__(self, worker: ServedWorker, task_id: str) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.has_ended = False
        self._worker, self._task_id = worker, task_id

    def run(self) -> None:
        path = f"/migration-task/{self._task_id}/events"
        with self._worker.client() as client, client.stream("GET", path) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((kind, json.loads(line.removeprefix("data: "))))
        self.has_ended = True

    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.events}

    def statuses(self) -> list[str]:
        return [facts["status"] for kind, facts in self.events if kind == "status"]


def test_events_come_live_and_end_with_the_task(
    worker: ServedWorker,
    client: httpx.Client,
    source: RunningServer,
    target: RunningServer,
    filled: int,
) -> None:
    task_id = create(client)
    listening = Listening(worker, task_id)
    listening.start()
    wait_until(lambda: listening.statuses() == ["RUNNING"], "the first event")

    client.post(f"/migration/{task_id}/task", json=configuration(source, target))
    wait_for(client, task_id, "INCRMIGEATING")
    wait_until(lambda: {"status", "state", "stats", "log"} <= listening.kinds(), "all kinds")
    client.post(f"/migration-task/{task_id}/sync-stop")
    client.request("DELETE", "/migration-tasks/delete", json={"task_id_list": [task_id]})

    listening.join(10)
    assert listening.has_ended
    assert listening.statuses() == [
        "RUNNING", "FULLMIGRATING", "INCRMIGEATING", "TERMINATING", "TERMINATED",
    ]  # fmt: skip
    logs = [facts["log_code"] for kind, facts in listening.events if kind == "log"]
    assert "psync.full_resync" in logs


def test_the_limit_is_changed_while_it_runs(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int
) -> None:
    with source.client() as writer:
        for number in range(40):
            writer.set(f"big:{number}", random.Random(number).randbytes(180_000))
    # 7 MB of data at 1 MB/s would take 7 seconds.
    started = time.monotonic()
    task_id = start_task(client, source, target, bandwidth_limit_mb=1)
    path = f"/migration-task/{task_id}/bandwidth-limit"
    wait_until(lambda: target.client().dbsize() > 3, "the snapshot is under way")

    assert show(client, task_id)["status"] == "FULLMIGRATING"
    assert client.put(path, json={"bandwidth_limit_mb": "10240"}).json() == {
        "bandwidth_limit_mb": "10240"
    }

    wait_for(client, task_id, "INCRMIGEATING")
    assert time.monotonic() - started < 5
    assert client.put(path, json={"bandwidth_limit_mb": None}).json() == {
        "bandwidth_limit_mb": None
    }
    assert client.put(path, json={"bandwidth_limit_mb": 0}).json()["error_code"] == "DCS.4063"
    assert client.put(path, json={}).json()["error_code"] == "DCS.4063"
    (line,) = client.get(f"/migration-task/{task_id}/lines").json()["lines"]
    assert line["source"] == f"127.0.0.1:{source.port}"
    assert {"applied_offset", "lag_bytes", "reconnects", "spool_bytes"} <= set(line["status"])
    client.post(f"/migration-task/{task_id}/sync-stop")
    assert client.get(f"/migration-task/{task_id}/lines").json() == {"lines": []}


def test_the_preflight_report_names_what_stands_against_it(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int
) -> None:
    task_id = create(client)
    path = f"/migration-task/{task_id}/preflight"
    assert client.get(path).json()["error_code"] == "DCS.4957"
    client.post(f"/migration/{task_id}/task", json=configuration(source, target))
    wait_for(client, task_id, "INCRMIGEATING")

    report = client.get(path).json()

    assert report["level"] in ("ok", "warning")
    assert {it["side"] for it in report["findings"]} >= {"source", "target"}
    assert str(source.password) not in str(report)
    client.post(f"/migration-task/{task_id}/sync-stop")


def test_a_refusal_of_the_preflight_check_fails_the_task_before_it_writes(
    client: httpx.Client, source: RunningServer, target: RunningServer, filled: int
) -> None:
    with source.client() as admin, target.client() as reader:
        admin.execute_command("ACL", "SETUSER", "default", "-psync")
        try:
            task_id = start_task(client, source, target)
            failed = wait_for(client, task_id, "MIGRATION_FAILED")
        finally:
            admin.execute_command("ACL", "SETUSER", "default", "+@all")
        assert "psync" in failed["error_message"]
        logs = client.get(f"/migration-task/{task_id}/logs?log_level=ERROR").json()
        assert "preflight.refusal" in [it["log_code"] for it in logs["migration_logs"]]
        assert reader.dbsize() == 0


INSTANCES = """
[[instances]]
id = "shop-source"
name = "Shop"
addrs = "127.0.0.1:{source.port}"
password = "{source.password}"
[[instances]]
id = "shop-target"
addrs = "127.0.0.1:{target.port}"
password_file = "{folder}/target.secret"
[[instances]]
id = "not-ours"
addrs = "127.0.0.1:1"
project_id = "another"
"""

HOOK = """\
import json, pathlib, sys
order = json.load(sys.stdin)
path = pathlib.Path(sys.argv[1])
path.write_text(path.read_text() + json.dumps(order) + "\\n" if path.exists() else json.dumps(order) + "\\n")
sys.exit("no such address" if "192.0.2.9" in order["exchanged_ip"] else 0)
"""


def test_instances_by_id_and_an_exchange_by_a_command(
    tmp_path: Path, source: RunningServer, target: RunningServer, filled: int
) -> None:
    (tmp_path / "target.secret").write_text(f"{target.password}\n")
    (tmp_path / "instances.toml").write_text(
        INSTANCES.format(source=source, target=target, folder=tmp_path)
    )
    (tmp_path / "hook.py").write_text(HOOK)
    command = f"{sys.executable} {tmp_path / 'hook.py'} {tmp_path / 'orders'}"
    options = ["--instances", str(tmp_path / "instances.toml"), "--exchange-command", command]
    with ServedWorker(tmp_path, *options) as worker, worker.client() as client:
        listed = client.get("/instances").json()
        assert [it["instance_id"] for it in listed["instances"]] == ["shop-source", "shop-target"]
        assert str(source.password) not in json.dumps(listed)
        assert client.get("/instances/shop-source").json()["ip"] == "127.0.0.1"
        assert client.get("/instances/not-ours").json()["error_code"] == "DCS.3022"

        task_id = create(client)
        path = f"/migration/{task_id}/task"
        body = configuration(source, target, source_instance={"id": "not-ours"})
        assert client.post(path, json=body).json()["error_code"] == "DCS.3022"
        body = configuration(
            source, target,
            source_instance={"id": "shop-source", "addrs": "127.0.0.1:1"},
            target_instance={"id": "shop-target"},
        )  # fmt: skip
        assert client.post(path, json=body).status_code == 200
        task = wait_for(client, task_id, "INCRMIGEATING")
        assert (task["source_instance"]["id"], task["source_instance"]["name"]) == (
            "shop-source",
            "Shop",
        )

        exchange = f"/migration-task/{task_id}/exchange-ip"
        assert client.post(exchange, json={"exchanged_ip": ["192.0.2.9"]}).status_code == 204
        wait_until(lambda: show(client, task_id)["error_message"], "the hook fails")
        assert "no such address" in show(client, task_id)["error_message"]
        assert show(client, task_id)["task_status"] is None
        assert client.post(exchange, content=b"{}\n").status_code == 204  # as Terraform's own test
        wait_until(lambda: show(client, task_id)["task_status"] == "EXCHANGE_SUCCESS", "exchanged")
        assert show(client, task_id)["error_message"] is None
        assert client.post(f"/migration-task/{task_id}/rollback-ip").status_code == 204
        wait_until(
            lambda: show(client, task_id)["task_status"] == "ROLLBACK_SUCCESS", "rolled back"
        )
        orders = [json.loads(line) for line in (tmp_path / "orders").read_text().splitlines()]
        assert [it["action"] for it in orders] == ["exchange", "exchange", "rollback"]
        assert orders[0]["source"]["addrs"] == f"127.0.0.1:{source.port}"
        assert show(client, task_id)["status"] == "INCRMIGEATING"
        client.post(f"/migration-task/{task_id}/sync-stop")


class Webhook(BaseHTTPRequestHandler):
    orders: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).orders.append(json.loads(body))
        self.send_response(200 if len(type(self).orders) > 1 else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_an_exchange_by_webhook_https_and_a_graceful_end(
    tmp_path: Path, source: RunningServer, target: RunningServer, filled: int
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    Webhook.orders = []
    server = HTTPServer(("127.0.0.1", 0), Webhook)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    worker = ServedWorker(
        tmp_path,
        "--exchange-webhook", f"http://127.0.0.1:{server.server_port}/switch",
        "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"),
    )  # fmt: skip
    worker.scheme = "https"
    try:
        with worker, httpx.Client(
            base_url=f"{worker.url}/v2/{PROJECT}", headers={"X-Auth-Token": TOKEN},
            verify=context, trust_env=False,
        ) as client:  # fmt: skip
            task_id = start_task(client, source, target)
            wait_for(client, task_id, "INCRMIGEATING")
            exchange = f"/migration-task/{task_id}/exchange-ip"
            client.post(exchange)
            wait_until(lambda: show(client, task_id)["error_message"], "the webhook's refusal")
            assert "the webhook answered 503" in show(client, task_id)["error_message"]
            client.post(exchange)
            wait_until(
                lambda: show(client, task_id)["task_status"] == "EXCHANGE_SUCCESS", "exchanged"
            )
            assert Webhook.orders[1]["task_id"] == task_id

            with client.stream("GET", f"/migration-task/{task_id}/events") as answer:
                next(answer.iter_lines())
                started = time.monotonic()
                assert worker.stop() == 0
                assert time.monotonic() - started < 8
        assert "Traceback" not in worker.log
        with source.client() as reader:
            wait_until(
                lambda: reader.info("replication")["connected_slaves"] == 0, "the link is closed"
            )
        worker.start()
        with httpx.Client(
            base_url=f"{worker.url}/v2/{PROJECT}", headers={"X-Auth-Token": TOKEN},
            verify=context, trust_env=False,
        ) as client:  # fmt: skip
            wait_for(client, task_id, "INCRMIGEATING")
            assert show(client, task_id)["task_status"] == "EXCHANGE_SUCCESS"
            client.post(f"/migration-task/{task_id}/sync-stop")
            assert side(source)["addrs"] == show(client, task_id)["source_instance"]["addrs"]
        worker.stop()
    finally:
        server.shutdown()
        server.server_close()
        serving.join(5)
