"""The real Huawei SDK against a served worker: every call it has for migration, signed, and with a token."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.demo.servers import RunningServer
from tests.api.served import (
    ABSENT,
    ACCESS,
    PROJECT,
    SECRET,
    TOKEN,
    VPC,
    ServedWorker,
    side,
    wait_until,
)

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The SDK's module; it writes a file into the home folder when it is imported."""
    home: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("HOME", str(home))
        return importlib.import_module("huaweicloudsdkdcs.v2")


def make_client(sdk: Any, worker: ServedWorker, access: str = ACCESS, secret: str = SECRET) -> Any:
    credentials = importlib.import_module("huaweicloudsdkcore.auth.credentials")
    return (
        sdk.DcsClient.new_builder()
        .with_credentials(credentials.BasicCredentials(access, secret, PROJECT))
        .with_endpoints([worker.url])
        .build()
    )


@pytest.fixture(params=["signed", "token"])
def client(request: pytest.FixtureRequest, sdk: Any, worker: ServedWorker) -> Any:
    if request.param == "signed":
        return make_client(sdk, worker)
    made = make_client(sdk, worker, "AKUNKNOWN", "not-the-secret-at-all")
    made.preset_headers["X-Auth-Token"] = TOKEN
    return made


def has_status(sdk: Any, client: Any, task_id: str, status: str) -> Callable[[], Any]:
    request = sdk.ShowMigrationTaskRequest(task_id=task_id)
    return lambda: client.show_migration_task(request).status == status


def create(sdk: Any, client: Any, name: str = "sdk-task") -> str:
    body = sdk.CreateOnlineMigrationTaskBody(name=name, description="by the SDK", **VPC)
    answer = client.create_online_migration_task(sdk.CreateOnlineMigrationTaskRequest(body=body))
    # The SDK's model does not know job_id, which Terraform needs.
    return str(answer.instance_id)


def configure(sdk: Any, client: Any, task_id: str, source: Any, target: Any, **changes: Any) -> Any:
    fields = {
        "migration_method": "incremental_migration",
        "resume_mode": "auto",
        "source_instance": sdk.ConfigMigrationInstanceBody(**side(source)),
        "target_instance": sdk.ConfigMigrationInstanceBody(**side(target)),
    } | changes
    body = sdk.SetOnlineMigrationTaskBody(**fields)
    return client.set_online_migration_task(
        sdk.SetOnlineMigrationTaskRequest(task_id=task_id, body=body)
    )


def test_an_incremental_migration_from_create_to_delete(
    sdk: Any, client: Any, source: RunningServer, target: RunningServer, filled: int
) -> None:
    task_id = create(sdk, client)
    assert has_status(sdk, client, task_id, "RUNNING")()

    answer = configure(sdk, client, task_id, source, target, bandwidth_limit_mb=100)
    assert (answer.id, answer.name, answer.status) == (task_id, "sdk-task", "FULLMIGRATING")
    wait_until(has_status(sdk, client, task_id, "INCRMIGEATING"), "the stream")
    with source.client() as writer:
        writer.set("written-later", "yes")

    def is_equal() -> bool:
        stats = client.show_migration_task_stats(sdk.ShowMigrationTaskStatsRequest(task_id=task_id))
        with target.client() as reader:
            return bool(reader.get("written-later") == b"yes") and stats.source_dbsize == str(
                filled + 1
            )

    wait_until(is_equal, "the later write is there and the stats show it")
    stats = client.show_migration_task_stats(sdk.ShowMigrationTaskStatsRequest(task_id=task_id))
    assert stats.full_migration_progress == "100"
    assert stats.is_migrating is True
    assert int(stats.offset) >= 0

    shown = client.show_migration_task(sdk.ShowMigrationTaskRequest(task_id=task_id))
    assert shown.bandwidth_limit_mb == "100"
    assert shown.source_instance.addrs == f"127.0.0.1:{source.port}"
    assert shown.source_instance.password is None
    logs = client.list_migration_task_logs(
        sdk.ListMigrationTaskLogsRequest(task_id=task_id, log_level="INFO", limit=100)
    )
    assert logs.log_num == len(logs.migration_logs) >= 3
    assert {it.log_level for it in logs.migration_logs} == {"INFO"}

    update = sdk.MigrationUpdateRequestEntity(resume_mode="manual")
    client.update_migration_task(sdk.UpdateMigrationTaskRequest(task_id=task_id, body=update))
    stopped = client.stop_migration_task(sdk.StopMigrationTaskRequest(task_id=task_id))
    assert stopped.status == "TERMINATING"
    wait_until(has_status(sdk, client, task_id, "TERMINATED"), "the stop")

    one = sdk.BatchRestartOnlineMigrationTasksBody(migration_tasks=[task_id])
    restarted = client.batch_restart_online_migration_tasks(
        sdk.BatchRestartOnlineMigrationTasksRequest(body=one)
    )
    assert [(it.task_id, it.result) for it in restarted.migration_tasks] == [(task_id, "success")]
    wait_until(has_status(sdk, client, task_id, "INCRMIGEATING"), "the stream again")
    client.stop_migration_task_sync(sdk.StopMigrationTaskSyncRequest(task_id=task_id))
    assert has_status(sdk, client, task_id, "TERMINATED")()

    listed = client.list_migration_task(sdk.ListMigrationTaskRequest(name="sdk-task"))
    assert task_id in [it.task_id for it in listed.migration_tasks]
    deleted = client.delete_migration_task(
        sdk.DeleteMigrationTaskRequest(body=sdk.DeleteMigrateTaskRequest(task_id_list=[task_id]))
    )
    assert deleted.task_id_list == [task_id]
    listed = client.list_migration_task(sdk.ListMigrationTaskRequest(limit=1000))
    assert task_id not in [it.task_id for it in listed.migration_tasks]


def test_a_full_migration_ends_in_success_and_can_be_configured_anew(
    sdk: Any, client: Any, source: RunningServer, target: RunningServer, filled: int
) -> None:
    task_id = create(sdk, client)
    configure(
        sdk, client, task_id, source, target, migration_method="full_amount_migration",
        bandwidth_limit_mb="7",
    )  # fmt: skip
    wait_until(has_status(sdk, client, task_id, "SUCCESS"), "the end")
    stats = client.show_migration_task_stats(sdk.ShowMigrationTaskStatsRequest(task_id=task_id))
    assert (stats.is_migrating, stats.full_migration_progress) == (False, "100")
    assert (stats.source_dbsize, stats.target_dbsize) == (str(filled), str(filled))

    configure(sdk, client, task_id, source, target)
    wait_until(has_status(sdk, client, task_id, "INCRMIGEATING"), "the stream")

    body = sdk.BatchStopMigrationTasksBody(migration_tasks=[task_id, ABSENT])
    answer = client.batch_stop_migration_tasks(sdk.BatchStopMigrationTasksRequest(body=body))
    results = {it.task_id: (it.result, it.error_code) for it in answer.migration_tasks}
    assert results == {task_id: ("success", None), ABSENT: ("failed", "DCS.4133")}
    wait_until(has_status(sdk, client, task_id, "TERMINATED"), "the stop")


def test_a_backup_is_imported(
    sdk: Any,
    client: Any,
    worker: ServedWorker,
    source: RunningServer,
    target: RunningServer,
    filled: int,
) -> None:
    with source.client() as writer:
        writer.save()
    bucket = worker.folder / "backups" / "bucket-1"
    bucket.mkdir(exist_ok=True)
    (bucket / "dump.rdb").write_bytes((source.directory / "dump.rdb").read_bytes())
    body = sdk.CreateMigrationTaskBody(
        task_name="import-1",
        migration_type="backupfile_import",
        migration_method="full_amount_migration",
        backup_files=sdk.BackupFilesBody(
            file_source="self_build_obs",
            bucket_name="bucket-1",
            files=[sdk.Files(file_name="dump.rdb", size="1", update_at="now")],
        ),
        target_instance=sdk.TargetInstanceBody(
            id=None, addrs=f"127.0.0.1:{target.port}", password=target.password
        ),
    )

    answer = client.create_migration_task(sdk.CreateMigrationTaskRequest(body=body))

    assert (answer.name, answer.status) == ("import-1", "MIGRATING")
    wait_until(has_status(sdk, client, answer.id, "SUCCESS"), "the import")
    with target.client() as reader:
        assert reader.dbsize() == filled
        assert reader.get("key:7") == b"7"
    shown = client.show_migration_task(sdk.ShowMigrationTaskRequest(task_id=answer.id))
    assert shown.backup_files.bucket_name == "bucket-1"


def test_the_exchange_without_a_hook_is_refused_with_a_reason(
    sdk: Any, client: Any, source: RunningServer, target: RunningServer, filled: int
) -> None:
    task_id = create(sdk, client)
    configure(sdk, client, task_id, source, target)
    wait_until(has_status(sdk, client, task_id, "INCRMIGEATING"), "the stream")
    exceptions = importlib.import_module("huaweicloudsdkcore.exceptions.exceptions")

    with pytest.raises(exceptions.ClientRequestException) as caught:
        client.exchange_instance_ip(
            sdk.ExchangeInstanceIpRequest(task_id=task_id, body=sdk.IpExchangeRequest())
        )

    assert caught.value.error_code == "DCS.4957"
    assert "no command or webhook" in caught.value.error_msg
    with pytest.raises(exceptions.ClientRequestException) as caught:
        client.rollback_exchange_instance_ip(sdk.RollbackExchangeInstanceIpRequest(task_id=task_id))
    assert caught.value.error_code == "DCS.4957"
    client.stop_migration_task_sync(sdk.StopMigrationTaskSyncRequest(task_id=task_id))


def test_errors_reach_the_client_with_code_text_and_request_id(sdk: Any, client: Any) -> None:
    exceptions = importlib.import_module("huaweicloudsdkcore.exceptions.exceptions")

    with pytest.raises(exceptions.ClientRequestException) as caught:
        client.show_migration_task_stats(sdk.ShowMigrationTaskStatsRequest(task_id=ABSENT))

    error = caught.value
    assert (error.status_code, error.error_code) == (400, "DCS.4133")
    assert error.error_msg == "Instance job is not found."
    assert len(error.request_id) == 32


def test_a_wrong_secret_is_401(sdk: Any, worker: ServedWorker) -> None:
    exceptions = importlib.import_module("huaweicloudsdkcore.exceptions.exceptions")
    client = make_client(sdk, worker, ACCESS, "not-the-secret-at-all")

    with pytest.raises(exceptions.ClientRequestException) as caught:
        client.list_migration_task(sdk.ListMigrationTaskRequest())

    assert (caught.value.status_code, caught.value.error_code) == (401, "APIGW.0301")
    assert "verify aksk signature fail" in caught.value.error_msg
    # One success takes the failure back.
    assert make_client(sdk, worker).list_migration_task(sdk.ListMigrationTaskRequest()).count >= 0
