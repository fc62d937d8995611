"""`redis-ferry serve` as a child process, and clients of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.conditions import holds

PROJECT = "0123456789abcdef0123456789abcdef"
OTHER_PROJECT = "fedcba9876543210fedcba9876543210"
ACCESS, SECRET = "AKTEST", "SKTEST-0123456789"
TOKEN, READER, OTHER_TOKEN = (
    "admin-token-0123456789",
    "reader-token-0123456789",
    "other-token-0123456789",
)
ABSENT = "00000000-0000-4000-8000-000000000000"
START_SECONDS = 30.0
VPC = {"vpc_id": "vpc-1", "subnet_id": "subnet-1", "security_group_id": "group-1"}

AUTH = f"""
[[tokens]]
token = "{TOKEN}"
project_id = "{PROJECT}"
[[tokens]]
token = "{READER}"
project_id = "{PROJECT}"
role = "reader"
[[tokens]]
token = "{OTHER_TOKEN}"
project_id = "{OTHER_PROJECT}"
[[tokens]]
token = "expired-token-0123456789"
project_id = "{PROJECT}"
expires_at = 2020-01-01T00:00:00Z
[[keys]]
access = "{ACCESS}"
secret = "{SECRET}"
project_id = "{PROJECT}"
[[keys]]
access = "AKLOCKED"
secret = "{SECRET}"
project_id = "{PROJECT}"
"""


class ServedWorker:
    """One service. Start, kill or stop, start again: the state folder and the address stay."""

    def __init__(
        self, folder: Path, *options: str, auth: str | None = AUTH, **variables: str
    ) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.options = list(options)
        self.address = "127.0.0.1:0"
        self.scheme = "http"
        self.lines: list[str] = []
        self._variables = variables
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        if auth is not None:
            path = folder / "auth.toml"
            path.write_text(auth)
            path.chmod(0o600)
            self.options += ["--auth-file", str(path)]

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def start(self) -> Self:
        kept = {name: it for name, it in os.environ.items() if not name.startswith("REDIS_FERRY_")}
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "engine", "serve", "--listen", self.address,
                "--state-dir", str(self.state_dir), *self.options,
            ],
            env=kept | self._variables,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        seen = len(self.lines)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = re.search(r"serve\.listening address=(\S+)", "\n".join(self.lines[seen:]))
            if found:
                self.address = found[1]
                return self
            assert self._process.poll() is None, f"serve ended: {self.log}"
            time.sleep(0.01)
        raise AssertionError(f"serve did not listen within {START_SECONDS} s: {self.log}")

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line.rstrip("\n"))

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(30)
        assert self._reader is not None
        self._reader.join(10)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def client(self, token: str | None = TOKEN) -> httpx.Client:
        """A client whose paths begin behind the project; without a token if None."""
        headers = {} if token is None else {"X-Auth-Token": token}
        return httpx.Client(
            base_url=f"{self.url}/v2/{PROJECT}", headers=headers, timeout=20, trust_env=False
        )


def create(client: httpx.Client, name: str = "a-task") -> str:
    """Create a task; returns its id."""
    answer = client.post("/migration/instance", json={"name": name, **VPC})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["instance_id"])


def configuration(source: Any, target: Any, **changes: Any) -> dict[str, Any]:
    """The body of call 2 for two running servers."""
    return {
        "migration_method": "incremental_migration",
        "resume_mode": "auto",
        "source_instance": side(source),
        "target_instance": side(target),
    } | changes


def side(server: Any) -> dict[str, Any]:
    return {"id": None, "addrs": f"{server.host}:{server.port}", "password": server.password}


def start_task(client: httpx.Client, source: Any, target: Any, **changes: Any) -> str:
    """Create and configure a task; returns its id."""
    task_id = create(client)
    answer = client.post(
        f"/migration/{task_id}/task", json=configuration(source, target, **changes)
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "FULLMIGRATING"
    return task_id


def show(client: httpx.Client, task_id: str) -> dict[str, Any]:
    answer = client.get(f"/migration-task/{task_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def wait_for(
    client: httpx.Client, task_id: str, *statuses: str, deadline_seconds: float = 30.0
) -> dict[str, Any]:
    """Poll a task until it has one of the statuses."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        task = show(client, task_id)
        if task["status"] in statuses:
            return task
        assert time.monotonic() < deadline, f"not {statuses} but {task}"
        time.sleep(0.02)


wait_until = holds  # as the tests of the API call it


def scrape(address: str) -> str:
    """What `/metrics` of a worker at host:port shows."""
    answer = httpx.get(f"http://{address}/metrics", timeout=10, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text
