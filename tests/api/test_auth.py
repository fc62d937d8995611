"""Who is let in, to what, and what the others are told."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.as_terraform import PATH, signed
from tests.api.served import (
    OTHER_PROJECT,
    OTHER_TOKEN,
    PROJECT,
    READER,
    TOKEN,
    VPC,
    ServedWorker,
    create,
)

pytestmark = pytest.mark.live


def get(worker: ServedWorker, path: str = PATH, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{worker.url}{path}", headers=named, trust_env=False)


def outcome(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error_code")


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (TOKEN, (200, None)),
        (READER, (200, None)),
        (None, (401, "DCS.1003")),
        ("", (401, "DCS.1003")),
        ("not-a-token-at-all", (401, "DCS.1001")),
        ("expired-token-0123456789", (401, "DCS.1002")),
        (OTHER_TOKEN, (401, "DCS.1004")),
    ],
)
def test_tokens(worker: ServedWorker, token: str | None, expected: tuple[int, str | None]) -> None:
    headers = {} if token is None else {"X_Auth_Token": token}

    assert outcome(get(worker, **headers)) == expected


def test_a_reader_may_look_and_not_touch(worker: ServedWorker) -> None:
    with worker.client(READER) as client:
        answer = client.post("/migration/instance", json={"name": "abcd", **VPC})

    assert outcome(answer) == (403, "DCS.3002")


def test_a_signature_without_host_and_with_a_newline_behind_the_body_is_right(
    worker: ServedWorker,
) -> None:
    body = b'{"name":"tf-task","vpc_id":"v","subnet_id":"s","security_group_id":"g"}\n'

    assert signed(worker).status_code == 200
    path = f"/v2/{PROJECT}/migration/instance"
    assert signed(worker, method="POST", path=path, body=body).status_code == 200
    answer = signed(worker, method="POST", path=path, body=body, sent_body=body.rstrip())
    assert outcome(answer) == (401, "APIGW.0301")
    assert signed(worker).status_code == 200  # and the failure is forgotten


def test_an_old_request_and_an_unknown_key_are_refused(worker: ServedWorker) -> None:
    assert outcome(signed(worker, age_seconds=3600)) == (401, "APIGW.0301")
    assert outcome(signed(worker, age_seconds=-3600)) == (401, "APIGW.0301")
    answer = signed(worker, access="AKNOBODY")
    assert outcome(answer) == (401, "APIGW.0301")
    assert "Get secretKey failed" in answer.json()["error_msg"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    path = f"/v2/{OTHER_PROJECT}/migration-tasks"
    assert outcome(signed(worker, path=path)) == (401, "DCS.1004")


def test_five_failures_lock_the_key_for_the_right_secret_too(worker: ServedWorker) -> None:
    assert signed(worker, access="AKLOCKED").status_code == 200
    for _ in range(5):
        answer = signed(worker, access="AKLOCKED", secret="wrong-secret-wrong")
        assert "verify aksk signature fail" in answer.json()["error_msg"]

    answer = signed(worker, access="AKLOCKED")

    assert outcome(answer) == (401, "APIGW.0301")
    assert "AK access failed to reach the limit,forbidden" in answer.json()["error_msg"]
    assert signed(worker).status_code == 200


def test_a_task_of_another_project_does_not_exist(worker: ServedWorker) -> None:
    with worker.client() as client:
        task_id = create(client)
    with httpx.Client(
        base_url=f"{worker.url}/v2/{OTHER_PROJECT}",
        headers={"X-Auth-Token": OTHER_TOKEN},
        trust_env=False,
    ) as stranger:
        assert outcome(stranger.get(f"/migration-task/{task_id}")) == (400, "DCS.4133")
        assert outcome(stranger.post(f"/migration-task/{task_id}/stop")) == (400, "DCS.4133")
        body = {"task_id_list": [task_id]}
        assert stranger.request("DELETE", "/migration-tasks/delete", json=body).status_code == 200
        assert stranger.get("/migration-tasks").json() == {"count": 0, "migration_tasks": []}
    with worker.client() as client:
        assert client.get(f"/migration-task/{task_id}").status_code == 200


def test_without_authentication_web_pages_are_kept_out(tmp_path: Path) -> None:
    with ServedWorker(tmp_path, auth=None) as worker:
        assert get(worker).status_code == 200
        assert get(worker, Origin=worker.url).status_code == 200
        assert outcome(get(worker, Origin="https://evil.example")) == (403, "DCS.3003")
        assert outcome(get(worker, Host="evil.example")) == (403, "DCS.3003")
        for nonsense in ("[", "null", "http://[", "http://127.0.0.1.evil.example"):
            assert outcome(get(worker, Origin=nonsense)) == (403, "DCS.3003")
        assert "everybody on this machine is let in" in worker.log
