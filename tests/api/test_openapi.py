"""The OpenAPI document: complete, and true of what the service answers (schemathesis)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.served import PROJECT, TOKEN, ServedWorker

pytestmark = pytest.mark.live

CALLS = {
    ("post", "/migration/instance"),
    ("post", "/migration/{task_id}/task"),
    ("post", "/migration/{task_id}/connectivity"),
    ("post", "/migration-task"),
    ("get", "/migration-tasks"),
    ("get", "/migration-task/{task_id}"),
    ("put", "/migration-task/{task_id}"),
    ("get", "/migration-task/{task_id}/stats"),
    ("get", "/migration-task/{task_id}/logs"),
    ("post", "/migration-task/{task_id}/stop"),
    ("post", "/migration-task/{task_id}/sync-stop"),
    ("post", "/migration-task/batch-stop"),
    ("post", "/migration-tasks/batch-restart"),
    ("delete", "/migration-tasks/delete"),
    ("post", "/migration-task/{task_id}/exchange-ip"),
    ("post", "/migration-task/{task_id}/rollback-ip"),
    ("get", "/jobs/{job_id}"),
}


def test_every_call_is_in_the_document_with_its_errors(worker: ServedWorker) -> None:
    document: dict[str, Any] = httpx.get(f"{worker.url}/openapi.json", trust_env=False).json()

    found = {
        (method, path.removeprefix("/v2/{project_id}"))
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert found >= CALLS
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            assert {"400", "405", "500"} <= set(operation["responses"])
            assert ("security" in operation) is path.startswith("/v2/")
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_schemathesis_finds_no_undocumented_answer(worker: ServedWorker, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        found = shutil.which("schemathesis")
        assert found is not None, "schemathesis is in the test extra"
        program = Path(found)
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.project_id" = "{PROJECT}"\n')

    ended = subprocess.run(
        [
            str(program), "--config-file", str(config), "run", f"{worker.url}/openapi.json",
            "--header", f"X-Auth-Token: {TOKEN}", "--phases", "coverage,fuzzing",
            "--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "8"), "--seed", "1",
            # Most valid requests name tasks that do not exist, which is 400 in this API.
            "--exclude-checks", "positive_data_acceptance",
            "--exclude-path-regex", "/events$",  # never ends
            "--request-timeout", "20", "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", ended.stdout)
    assert tested is not None
    assert int(tested[1]) > len(CALLS)
    assert "Traceback" not in worker.log
