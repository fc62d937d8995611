"""The store on SQLite and on PostgreSQL: what goes in comes out, bounded, and by one owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, text

from engine.errors import ConfigError
from engine.service import tables
from engine.service.catalog import Catalog
from engine.service.database import LATEST_STEP, MIGRATIONS, open_database, sqlite_url
from engine.service.record import (
    InstanceRecord,
    JobRecord,
    LogLevel,
    LogRow,
    MigrationMethod,
    MigrationType,
    TaskRecord,
    TlsFiles,
)
from engine.service.refusals import StoreFailed, TaskUnknown
from engine.service.store import LOG_ROWS_KEPT, LOG_ROWS_SLACK, Store
from engine.service.wire_status import ExchangeStatus, WireStatus
from engine.settings import ResumeMode
from tests.fix_postgres import RunningPostgres

NOW = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)


def record(task_id: str = "t1", **changes: Any) -> TaskRecord:
    return TaskRecord(
        **{"task_id": task_id, "project_id": "p1", "name": "nämé", "created_at": NOW} | changes
    )


def job(job_id: str = "j1", task_id: str = "t1", **changes: Any) -> JobRecord:
    fields = {
        "job_id": job_id, "project_id": "p1", "task_id": task_id, "job_type": "create",
        "status": "RUNNING", "begin_time": NOW,
    }  # fmt: skip
    return JobRecord(**fields | changes)


def row(number: int, level: LogLevel = LogLevel.INFO, task_id: str = "t1") -> LogRow:
    return LogRow(
        task_id=task_id, created_at=NOW, level=level, message=f"row {number}", code="c",
        keywords=("a=1", "b=ü"),
    )  # fmt: skip


EVERYTHING = record(
    description="d",
    status=WireStatus.INCRMIGEATING,
    migration_type=MigrationType.ONLINE,
    migration_method=MigrationMethod.INCREMENTAL,
    resume_mode=ResumeMode.MANUAL,
    bandwidth_limit_mb=7,
    vpc_id="v",
    subnet_id="s",
    security_group_id="g",
    network_type="vpc",
    source=InstanceRecord(
        addrs="a:1", sealed_password="x", tls=TlsFiles(ca_file="c", verify=False)
    ),
    target=InstanceRecord(addrs="b:2", id="i", name="n", username="u", db="3", proxy_multi_db=True),
    backup_files={"files": [{"file_name": "f"}]},
    updated_at=NOW + timedelta(seconds=1),
    error_message="e",
    task_status=ExchangeStatus.EXCHANGE_SUCCESS,
    run_number=3,
    has_run=True,
    last_figures={"offset": 5},
    source_version="7.2.4",
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with RunningPostgres() as it:
        yield it.url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    database = await open_database(url, state_dir=tmp_path)
    async with database.engine.begin() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            await connection.execute(table.delete())
    found = Store(database)
    yield found
    await found.close()


async def test_what_goes_in_comes_out(store: Store) -> None:
    made = job(status="FAIL", end_time=NOW, fail_reason="reason")
    await store.insert_task(record(), made)
    await store.update_task(EVERYTHING)
    await store.insert_task(record("t2", created_at=NOW + timedelta(seconds=1)), None)

    assert await store.load_tasks() == [
        EVERYTHING,
        record("t2", created_at=NOW + timedelta(seconds=1)),
    ]
    assert await store.job("p1", "j1") == made
    assert await store.job("p2", "j1") is None


async def test_logs_are_paged_filtered_and_bounded(store: Store) -> None:
    await store.insert_task(record(), None)
    await store.insert_task(record("t2"), None)
    await store.add_logs(
        [row(0, LogLevel.ERROR), row(1), row(1, task_id="t2"), row(2, task_id="gone")]
    )

    assert await store.logs("t1", level=None, offset=0, limit=10) == (
        2,
        [row(1), row(0, LogLevel.ERROR)],
    )
    assert await store.logs("t1", level=LogLevel.ERROR, offset=0, limit=1) == (
        1,
        [row(0, LogLevel.ERROR)],
    )
    assert await store.logs("t1", level=None, offset=1, limit=1) == (2, [row(0, LogLevel.ERROR)])
    assert await store.logs("t1", level=None, offset=5, limit=0) == (2, [])
    for start in range(2, 2002, 250):
        await store.add_logs([row(number) for number in range(start, start + 250)])
    count, rows = await store.logs("t1", level=None, offset=0, limit=1)
    assert LOG_ROWS_KEPT <= count <= LOG_ROWS_KEPT + LOG_ROWS_SLACK
    assert rows == [row(2001)]
    assert (await store.logs("t2", level=None, offset=0, limit=1))[0] == 1


async def test_a_deleted_task_takes_its_logs_and_jobs_along(store: Store) -> None:
    await store.insert_task(record(), job())
    await store.add_logs([row(0)])

    await store.delete_task("t1")

    assert await store.load_tasks() == []
    assert await store.logs("t1", level=None, offset=0, limit=10) == (0, [])
    assert await store.job("p1", "j1") is None
    await store.update_task(record())
    assert await store.load_tasks() == []


async def test_the_steps_make_the_tables_that_the_code_uses(store: Store) -> None:
    def columns(found: MetaData) -> dict[str, dict[str, bool | None]]:
        return {
            name: {it.name: it.nullable for it in table.columns}
            for name, table in found.tables.items()
            if name != "alembic_version"
        }

    there = MetaData()
    async with store._engine.connect() as connection:
        await connection.run_sync(there.reflect)
        step = await connection.scalar(text("SELECT version_num FROM alembic_version"))

    assert columns(there) == columns(tables.metadata)
    newest = max((MIGRATIONS / "versions").glob("step_*.py"))
    assert step == LATEST_STEP == newest.name.split("_")[1]


async def test_a_database_has_one_owner(url: str, store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" if url.startswith("postgres") else tmp_path

    with pytest.raises(ConfigError, match=r"another redis-ferry serve uses th"):
        await open_database(url, state_dir=elsewhere)

    await store.ping()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://u:s3cret@h/d", "kind mysql"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", "cannot be opened"),
        ("sqlite+aiosqlite:////proc/nothing/x.db", "cannot be opened"),
    ],
)
async def test_a_url_that_is_none_is_a_usage_error(tmp_path: Path, wrong: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        await open_database(wrong, state_dir=tmp_path)

    assert "s3cret" not in str(caught.value)
    database = await open_database(sqlite_url(tmp_path), state_dir=tmp_path)  # it is not locked
    await database.close()


async def test_a_change_that_the_store_does_not_take_is_none(store: Store) -> None:
    catalog = Catalog(store)
    await catalog.add(record(), job())
    async with store._engine.begin() as connection:
        await connection.execute(text("ALTER TABLE tasks RENAME TO hidden"))
    try:
        with pytest.raises(StoreFailed):
            await catalog.change_durably("t1", status=WireStatus.TERMINATING)
        assert catalog.get("p1", "t1") == record()
        catalog.change("t1", status=WireStatus.SUCCESS)
        catalog.save_soon("t1")
        with pytest.raises(StoreFailed):
            await catalog.flush()
    finally:
        async with store._engine.begin() as connection:
            await connection.execute(text("ALTER TABLE hidden RENAME TO tasks"))

    await catalog.flush()

    assert await store.load_tasks() == [record(status=WireStatus.SUCCESS)]
    with pytest.raises(TaskUnknown):
        catalog.get("p2", "t1")
