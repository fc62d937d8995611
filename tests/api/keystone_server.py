"""OpenStack Keystone on SQLite and loopback, in a virtual environment of its own.

KEYSTONE_BIN names the folder with keystone-manage: python3 -m venv K && K/bin/pip install keystone.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import httpx

PASSWORD = "admin-password"
START_SECONDS = 60.0
CONFIG = """\
[database]
connection = sqlite:///{folder}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credentials
[cache]
enabled = false
"""
# Keystone reads sys.argv when it is imported, so ours is cut first.
SERVE = """\
import sys
port = int(sys.argv[1])
del sys.argv[1:]
from wsgiref.simple_server import WSGIRequestHandler, make_server
from keystone.wsgi.api import application
class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass
make_server("127.0.0.1", port, application, handler_class=Quiet).serve_forever()
"""


def keystone_bin() -> Path | None:
    """The folder of the programs; None where they are not installed."""
    folder = Path(os.environ.get("KEYSTONE_BIN", "/nonexistent"))
    return folder if (folder / "keystone-manage").exists() else None


class Keystone:
    """A running one. url: ends in /v3."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/v3"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self._folder / "keystone.conf").write_text(CONFIG.format(folder=self._folder))
        (self._folder / "serve.py").write_text(SERVE)
        user = getpass.getuser()
        owner = ("--keystone-user", user, "--keystone-group", user)
        self._manage("db_sync")
        self._manage("fernet_setup", *owner)
        self._manage("credential_setup", *owner)
        self._manage(
            "bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-username", "admin",
            "--bootstrap-project-name", "admin", "--bootstrap-role-name", "admin",
            "--bootstrap-service-name", "keystone", "--bootstrap-region-id", "RegionOne",
            "--bootstrap-public-url", f"{self.url}/",
        )  # fmt: skip
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "python"), "-W", "ignore", "serve.py", str(self._port)],
                cwd=self._folder,
                env=self._environment(),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Keystone does not answer"
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def _environment(self) -> dict[str, str]:
        return dict(os.environ) | {"OS_KEYSTONE_CONFIG_DIR": str(self._folder)}

    def _manage(self, *arguments: str) -> None:
        subprocess.run(
            [
                str(self._programs / "keystone-manage"),
                "--config-file", str(self._folder / "keystone.conf"), *arguments,
            ],
            env=self._environment(),
            check=True,
            capture_output=True,
            timeout=100,
        )  # fmt: skip

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def token(self, user: str, password: str, project: str | None) -> tuple[str, dict[str, Any]]:
        """Log in: the token, and what Keystone says of it. project: None: scoped to nothing."""
        domain = {"name": "Default"}
        login = {"user": {"name": user, "password": password, "domain": domain}}
        body: dict[str, Any] = {"identity": {"methods": ["password"], "password": login}}
        if project is not None:
            body["scope"] = {"project": {"name": project, "domain": domain}}
        answer = httpx.post(f"{self.url}/auth/tokens", json={"auth": body}, trust_env=False)
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"], answer.json()["token"]

    def revoke(self, token: str) -> None:
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        answer = httpx.delete(f"{self.url}/auth/tokens", headers=headers, trust_env=False)
        assert answer.status_code == 204

    def add_user(self, admin: str, name: str, password: str, *, project_id: str, role: str) -> None:
        """Add a user with a role in a project; the role is made if there is none."""
        headers = {"X-Auth-Token": admin}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False) as client:
            made = client.post("/users", json={"user": {"name": name, "password": password}})
            roles = client.get("/roles", params={"name": role}).json()["roles"]
            if not roles:
                roles = [client.post("/roles", json={"role": {"name": role}}).json()["role"]]
            path = (
                f"/projects/{project_id}/users/{made.json()['user']['id']}/roles/{roles[0]['id']}"
            )
            assert client.put(path).status_code == 204
