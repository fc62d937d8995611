"""Tokens that OpenStack Keystone itself has issued."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.keystone_server import PASSWORD, Keystone, keystone_bin
from tests.api.served import ABSENT, VPC, ServedWorker, wait_until
from tests.api.test_sdk import sdk

__all__ = ["sdk"]  # a fixture
pytestmark = [pytest.mark.live, pytest.mark.keystone, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    programs = keystone_bin()
    if programs is None:
        pytest.skip("no Keystone: KEYSTONE_BIN names no folder with keystone-manage")
    with Keystone(programs, tmp_path_factory.mktemp("keystone")) as it:
        yield it


AUTH = {
    "the token itself": '[keystone]\nurl = "{url}"\ncache_seconds = 1\n',
    "a user of the service": (
        '[keystone]\nurl = "{url}"\nusername = "admin"\npassword = "{password}"\n'
        'project = "admin"\ncache_seconds = 1\n'
    ),
}


def get(worker: ServedWorker, project_id: str, token: str) -> tuple[int, Any]:
    answer = httpx.get(
        f"{worker.url}/v2/{project_id}/migration-tasks",
        headers={"X-Auth-Token": token},
        trust_env=False,
    )
    return answer.status_code, answer.json().get("error_code")


@pytest.mark.parametrize("auth", list(AUTH.values()), ids=list(AUTH))
def test_keystones_tokens_let_in_by_project_and_role(
    keystone: Keystone, tmp_path: Path, auth: str, sdk: Any, request: pytest.FixtureRequest
) -> None:
    admin, facts = keystone.token("admin", PASSWORD, "admin")
    project_id = facts["project"]["id"]
    mark = "a" if "itself" in request.node.callspec.id else "b"
    for role in ("reader", "member", "stranger"):
        keystone.add_user(admin, f"{role}-{mark}", PASSWORD, project_id=project_id, role=role)
    tokens = {
        role: keystone.token(f"{role}-{mark}", PASSWORD, "admin")[0]
        for role in ("reader", "member", "stranger")
    }
    unscoped, _ = keystone.token("admin", PASSWORD, None)
    with ServedWorker(tmp_path, auth=auth.format(url=keystone.url, password=PASSWORD)) as worker:
        assert get(worker, project_id, admin) == (200, None)
        assert get(worker, project_id, tokens["member"]) == (200, None)
        assert get(worker, project_id, tokens["reader"]) == (200, None)
        assert get(worker, project_id, tokens["stranger"]) == (403, "DCS.3003")
        assert get(worker, project_id, "gAAAA-no-token") == (401, "DCS.1001")
        assert get(worker, ABSENT.replace("-", ""), admin) == (401, "DCS.1004")
        assert get(worker, project_id, unscoped) == (401, "DCS.1004")
        body = {"name": "by-keystone", **VPC}
        path = f"{worker.url}/v2/{project_id}/migration/instance"
        for role, status in (("member", 200), ("reader", 403)):
            headers = {"X-Auth-Token": tokens[role]}
            answer = httpx.post(path, json=body, headers=headers, trust_env=False)
            assert answer.status_code == status

        credentials = importlib.import_module("huaweicloudsdkcore.auth.credentials")
        client = (
            sdk.DcsClient.new_builder()
            .with_credentials(credentials.BasicCredentials("unused", "unused", project_id))
            .with_endpoints([worker.url])
            .build()
        )
        client.preset_headers["X-Auth-Token"] = tokens["member"]
        listed = client.list_migration_task(sdk.ListMigrationTaskRequest())
        assert [it.task_name for it in listed.migration_tasks] == ["by-keystone"]

        keystone.revoke(tokens["member"])
        wait_until(
            lambda: get(worker, project_id, tokens["member"]) == (401, "DCS.1001"),
            "a revoked token is forgotten when its second has passed",
        )


def test_a_keystone_that_does_not_answer_is_a_500_and_no_way_in(tmp_path: Path) -> None:
    with ServedWorker(tmp_path, auth='[keystone]\nurl = "http://127.0.0.1:1/v3"\n') as worker:
        assert get(worker, ABSENT, "some-token") == (500, "DCS.5000")
        wait_until(lambda: "keystone.unreachable" in worker.log, "the log says why")
        assert "some-token" not in worker.log
