"""A real Prometheus: where its programs are, and one that scrapes a worker.

Looked for on PATH, in the folder PROMETHEUS_BIN, and in .prometheus/ of the project, where .ci/run unpacks Debian's package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
START_SECONDS = 30.0
_PLACES = (os.environ.get("PROMETHEUS_BIN", ""), str(ROOT / ".prometheus" / "usr" / "bin"))


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(filter(None, _PLACES)))
    if found is None:
        pytest.skip(f"no {name} on this machine (Debian package prometheus)")
    return found


class RunningPrometheus:
    """Scrapes `target` (host:port) as the job redis-ferry, four times a second, and evaluates the rules as often."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        self._target = target
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.lines: list[str] = []
        self.address = ""

    def __enter__(self) -> Self:
        config = self._folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 250ms, evaluation_interval: 250ms}\n"
            f"rule_files: ['{RULES}']\n"
            "scrape_configs:\n"
            "  - job_name: redis-ferry\n"
            f"    static_configs: [{{targets: ['{self._target}']}}]\n"
        )
        self._process = subprocess.Popen(
            [
                program("prometheus"), f"--config.file={config}",
                f"--storage.tsdb.path={self._folder / 'data'}", "--web.listen-address=127.0.0.1:0",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + START_SECONDS
        while not self.address:
            for line in list(self.lines):
                if found := re.search(r'msg="Listening on" address=(\S+)', line):
                    self.address = found[1]
            assert self._process.poll() is None, "\n".join(self.lines)
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.01)
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.terminate()
        self._process.wait(20)
        self._reader.join(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """An instant query: labels and value of each sample."""
        answer = httpx.get(
            f"http://{self.address}/api/v1/query", params={"query": expression}, trust_env=False
        ).json()
        assert answer["status"] == "success", answer
        return [(it["metric"], float(it["value"][1])) for it in answer["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """Of the only sample; None while there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def get(self, path: str) -> Any:
        """`data` of another call of its API."""
        return httpx.get(f"http://{self.address}{path}", trust_env=False).json()["data"]
