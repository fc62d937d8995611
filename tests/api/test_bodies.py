"""What clients send and get, field by field: types, ranges, defaults, error bodies."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.served import ABSENT, PROJECT, VPC, ServedWorker, create, show

pytestmark = pytest.mark.live

NEW = {"name": "abcd", **VPC}
SIDES = {"source_instance": {"addrs": "127.0.0.1:1"}, "target_instance": {"addrs": "127.0.0.1:2"}}
CONFIGURE = {"migration_method": "incremental_migration", "resume_mode": "auto", **SIDES}
IMPORT = {
    "task_name": "abcd",
    "migration_type": "backupfile_import",
    "migration_method": "full_amount_migration",
    "backup_files": {"file_source": "self_build_obs", "files": [{"file_name": "absent.rdb"}]},
    "target_instance": {"addrs": "127.0.0.1:2"},
}


def is_error(answer: httpx.Response, code: str, status: int = 400, word: str = "") -> None:
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, code), answer.text
    assert set(body) - {"request_id"} == {"error_code", "error_msg", "error_ext_msg"}
    assert body["error_ext_msg"] is None
    assert word in body["error_msg"]
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.headers["x-request-id"]) == 32


def test_create_answers_with_the_tasks_id_and_a_finished_job(client: httpx.Client) -> None:
    answer = client.post("/migration/instance", json=NEW)

    assert set(answer.json()) == {"instance_id", "job_id"}
    job = client.get(f"/jobs/{answer.json()['job_id']}").json()
    assert job["status"] == "SUCCESS"
    assert job["begin_time"].isdigit()
    assert len(job["begin_time"]) == 13
    assert set(job) == {"job_id", "job_type", "status", "begin_time", "end_time", "fail_reason"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": None}, "DCS.4010"),
        ({"name": "abc"}, "DCS.4010"),
        ({"name": "a" * 65}, "DCS.4010"),
        ({"name": "1abc"}, "DCS.4010"),
        ({"name": "ab cd"}, "DCS.4010"),
        ({"name": "abcd\n"}, "DCS.4010"),
        ({"name": 1234}, "DCS.4010"),
        ({"description": "x" * 1025}, "DCS.4011"),
        ({"description": "nul\x00"}, "DCS.4011"),
        ({"vpc_id": None}, "DCS.4013"),
        ({"vpc_id": ""}, "DCS.4013"),
        ({"security_group_id": 7}, "DCS.4014"),
        ({"subnet_id": None}, "DCS.4016"),
    ],
)
def test_create_refuses(client: httpx.Client, changes: dict[str, Any], code: str) -> None:
    is_error(client.post("/migration/instance", json=NEW | changes), code)


def test_names_may_be_used_twice_and_unknown_members_are_ignored(client: httpx.Client) -> None:
    for _ in range(2):
        answer = client.post(
            "/migration/instance", json=NEW | {"description": None, "something": {"else": 1}}
        )
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "DCS.4004"),
        (b"null", "DCS.4005"),
        (b"{", "DCS.4005"),
        (b"[]", "DCS.4005"),
        (b'"text"', "DCS.4005"),
        (b"\xff\xfe", "DCS.4005"),
        (b'{"name": "\\ud800aaaa"}', "DCS.4010"),
        (b"[" * 100_000, "DCS.4005"),
        (b'{"name": ' + b"9" * 5000 + b"}", "DCS.4005"),
    ],
    ids=["empty", "null", "cut", "list", "text", "no UTF-8", "surrogate", "deep", "huge number"],
)
def test_a_body_that_cannot_be_read_is_refused(
    client: httpx.Client, content: bytes, code: str
) -> None:
    is_error(client.post("/migration/instance", content=content), code)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "application/json;charset=utf8"}, {"Content-Type": "application/json"}],
    ids=["none", "charset", "plain"],
)
def test_the_content_type_may_be_absent_or_name_a_charset(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    content = b'{"name":"abcd","vpc_id":"v","subnet_id":"s","security_group_id":"g"}\n'
    request = client.build_request("POST", "/migration/instance", content=content, headers=headers)
    if not headers:
        request.headers.pop("content-type", None)

    assert client.send(request).status_code == 200


@pytest.mark.parametrize("limit", [0, 10241, 1.5, "1.5", "abc", True, "", -1, "-1", " 1", [], "١"])
def test_a_limit_that_is_none_is_refused(client: httpx.Client, limit: Any) -> None:
    task_id = create(client)
    body = CONFIGURE | {"bandwidth_limit_mb": limit}

    answer = client.post(f"/migration/{task_id}/task", json=body)

    is_error(answer, "DCS.4063", word="Invalid bandwidth_limit_mb parameter in the request.")
    assert show(client, task_id)["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"migration_method": None}, "DCS.4063", "migration_method"),
        ({"migration_method": "some"}, "DCS.4063", "migration_method"),
        ({"resume_mode": None}, "DCS.4063", "resume_mode"),
        ({"resume_mode": "later"}, "DCS.4063", "resume_mode"),
        ({"source_instance": None}, "DCS.4063", "source_instance"),
        ({"source_instance": {}}, "DCS.4063", "It needs id or addrs."),
        ({"target_instance": {"id": None, "addrs": None}}, "DCS.4063", "target_instance"),
        ({"source_instance": {"addrs": "127.0.0.1"}}, "DCS.4063", "source_instance.addrs"),
        (
            {"source_instance": {"addrs": "redis://127.0.0.1:1"}},
            "DCS.4063",
            "source_instance.addrs",
        ),
        ({"source_instance": {"addrs": "127.0.0.1:0"}}, "DCS.4063", "source_instance.addrs"),
        ({"source_instance": {"addrs": "a:1,b"}}, "DCS.4063", "source_instance.addrs"),
        ({"source_instance": {"addrs": "127.0.0.1:2"}}, "DCS.4063", "the same server"),
        ({"source_instance": {"addrs": 5}}, "DCS.4063", "source_instance.addrs"),
        ({"source_instance": {"id": "no such"}}, "DCS.4061", ""),
        ({"source_instance": {"addrs": "a:1", "password": 5}}, "DCS.4845", ""),
    ],
)
def test_configure_refuses(
    client: httpx.Client, changes: dict[str, Any], code: str, word: str
) -> None:
    task_id = create(client)

    answer = client.post(f"/migration/{task_id}/task", json=CONFIGURE | changes)

    is_error(answer, code, word=word)
    assert show(client, task_id)["status"] == "RUNNING"


def test_an_instance_that_is_not_registered_is_404(client: httpx.Client) -> None:
    body = CONFIGURE | {"source_instance": {"id": ABSENT}}

    is_error(client.post(f"/migration/{create(client)}/task", json=body), "DCS.3022", 404)


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"migration_type": "online_migration"}, "DCS.4063", "migration_type"),
        ({"migration_method": None}, "DCS.4063", "migration_method"),
        ({"task_name": "a"}, "DCS.4010", ""),
        ({"backup_files": None}, "DCS.4063", "backup_files"),
        ({}, "DCS.4063", "There is no such file."),
        (
            {"backup_files": {"file_source": "self_build_obs", "bucket_name": "..", "files": [{"file_name": "auth.toml"}]}},
            "DCS.4063",
            "There is no such file.",
        ),
        (
            {"backup_files": {"file_source": "self_build_obs", "files": [{"file_name": "/etc/passwd"}]}},
            "DCS.4063",
            "There is no such file.",
        ),
        ({"backup_files": {"backup_id": ABSENT}}, "DCS.4957", "only files of the local backup folder"),
        ({"target_instance": {}}, "DCS.4063", "target_instance"),
    ],
)  # fmt: skip
def test_an_import_refuses(
    client: httpx.Client, changes: dict[str, Any], code: str, word: str
) -> None:
    answer = client.post("/migration-task", json=IMPORT | changes)

    is_error(answer, code)
    assert word.lower() in answer.json()["error_msg"].lower()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/migration/{}/task"),
        ("POST", "/migration/{}/connectivity"),
        ("GET", "/migration-task/{}"),
        ("GET", "/migration-task/{}/stats"),
        ("GET", "/migration-task/{}/logs"),
        ("GET", "/migration-task/{}/lines"),
        ("GET", "/migration-task/{}/events"),
        ("PUT", "/migration-task/{}"),
        ("PUT", "/migration-task/{}/bandwidth-limit"),
        ("POST", "/migration-task/{}/stop"),
        ("POST", "/migration-task/{}/sync-stop"),
        ("POST", "/migration-task/{}/exchange-ip"),
        ("POST", "/migration-task/{}/rollback-ip"),
        ("GET", "/jobs/{}"),
    ],
)
def test_an_unknown_id_is_4133_and_a_malformed_one_4070(
    client: httpx.Client, method: str, path: str
) -> None:
    bodies: dict[str, Any] = {
        "/migration/{}/task": CONFIGURE,
        "/migration/{}/connectivity": {"addrs": "127.0.0.1:1"},
        "/migration-task/{}/bandwidth-limit": {"bandwidth_limit_mb": 1},
    }
    body = bodies.get(path)

    answer = client.request(method, path.format(ABSENT), json=body)
    is_error(answer, "DCS.4133")
    assert answer.json()["error_msg"] == "Instance job is not found."
    is_error(client.request(method, path.format("no-uuid"), json=body), "DCS.4070")


@pytest.mark.parametrize("call", ["/migration-task/batch-stop", "/migration-tasks/batch-restart"])
@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ([], "DCS.4855"),
        (None, "DCS.4855"),
        ("text", "DCS.4855"),
        (["no-uuid"], "DCS.4855"),
        ([ABSENT], "DCS.4855"),
        ([5], "DCS.4855"),
        ([ABSENT] * 51, "DCS.4100"),
    ],
)
def test_a_batch_refuses_an_unusable_list(
    client: httpx.Client, call: str, ids: Any, code: str
) -> None:
    is_error(client.post(call, json={"migration_tasks": ids}), code)


def test_an_unknown_id_counts_as_deleted_and_a_bad_list_does_not(client: httpx.Client) -> None:
    answer = client.request("DELETE", "/migration-tasks/delete", json={"task_id_list": [ABSENT]})

    assert (answer.status_code, answer.json()) == (200, {"task_id_list": [ABSENT]})
    for ids in ([], ["x"], None):
        answer = client.request("DELETE", "/migration-tasks/delete", json={"task_id_list": ids})
        is_error(answer, "DCS.4855")


def test_update_takes_no_body_as_auto_and_refuses_other_modes(client: httpx.Client) -> None:
    task_id = create(client)

    answer = client.put(f"/migration-task/{task_id}", json={"resume_mode": "manual"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert show(client, task_id)["resume_mode"] == "manual"
    assert client.put(f"/migration-task/{task_id}").status_code == 200
    assert show(client, task_id)["resume_mode"] == "auto"
    answer = client.put(f"/migration-task/{task_id}", json={"resume_mode": "never"})
    is_error(answer, "111400063", word="Invalid resume_mode parameter in the request.")


@pytest.mark.parametrize(
    "query",
    ["offset=-1", "offset=x", "limit=0", "limit=1001", "limit=1.5", "offset=99999999999999999999"],
)
def test_the_list_refuses_a_page_that_is_none(client: httpx.Client, query: str) -> None:
    name = query.split("=", maxsplit=1)[0]
    is_error(client.get(f"/migration-tasks?{query}"), "DCS.4063", word=name)


def test_the_logs_refuse_a_level_that_is_none(client: httpx.Client) -> None:
    task_id = create(client)

    is_error(
        client.get(f"/migration-task/{task_id}/logs?log_level=LOUD"), "DCS.4063", word="log_level"
    )
    answer = client.get(f"/migration-task/{task_id}/logs?limit=0").json()
    assert answer["migration_logs"] == []
    assert answer["log_num"] >= 1


def test_the_list_is_paged_and_ends_with_an_empty_array(worker: ServedWorker) -> None:
    with worker.client() as client:
        ids = [create(client, "paged-task") for _ in range(12)]
        first = client.get("/migration-tasks?name=paged-task").json()
        second = client.get("/migration-tasks?name=paged-task&offset=10").json()
        past = client.get("/migration-tasks?name=paged-task&offset=12&limit=1000").json()
        none = client.get("/migration-tasks?name=paged").json()

    assert [len(it["migration_tasks"]) for it in (first, second, past)] == [10, 2, 0]
    assert [it["count"] for it in (first, second, past, none)] == [12, 12, 12, 0]
    found = [it["task_id"] for it in first["migration_tasks"] + second["migration_tasks"]]
    assert found == ids[::-1]
    assert past["migration_tasks"] == []


def test_a_new_task_is_shown_with_every_field(client: httpx.Client) -> None:
    task_id = create(client, "shown-task")
    task = show(client, task_id)

    assert task["task_id"] == task_id
    assert (task["task_name"], task["status"]) == ("shown-task", "RUNNING")
    assert (task["tenant_vpc_id"], task["tenant_subnet_id"]) == ("vpc-1", "subnet-1")
    assert task["supported_features"] == []
    assert task["created_at"].endswith("Z")
    assert len(task["created_at"]) == len("2021-06-16T06:12:55.508Z")
    stats = client.get(f"/migration-task/{task_id}/stats").json()
    assert stats == {
        "full_migration_progress": "0",
        "offset": "0",
        "source_dbsize": "0",
        "target_dbsize": "0",
        "target_input_kbps": "0",
        "target_ops": "0",
        "is_migrating": False,
    }


def test_routes_and_methods_that_are_none(client: httpx.Client) -> None:
    is_error(client.get("/nothing"), "DCS.4001", 404)
    is_error(client.get("/migration-tasks/"), "DCS.4001", 404)
    answer = client.patch(f"/migration-task/{ABSENT}")
    is_error(answer, "DCS.5001", 405)
    assert answer.headers["allow"] == "GET, PUT"
    answer = client.get("/migration-task/batch-stop")
    is_error(answer, "DCS.5001", 405)
    assert answer.headers["allow"] == "POST"
    bad = httpx.get(
        f"{str(client.base_url).replace(PROJECT, 'a.b')}migration-tasks",
        headers=client.headers,
        trust_env=False,
    )
    is_error(bad, "DCS.1004", 401)


def test_the_versions_are_told_without_a_token(worker: ServedWorker) -> None:
    with httpx.Client(base_url=worker.url, trust_env=False) as client:
        assert client.get("/").json()["versions"][0]["id"] == "v2"
        assert client.get("/v2").json()["version"]["status"] == "CURRENT"
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ok"}
        page = client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "batch-restart" in page.text
        assert "<script" not in page.text
