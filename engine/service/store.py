"""Tasks, logs and jobs in the database. Every write is one transaction; nothing of it is read by the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from engine.service import tables
from engine.service.database import Database
from engine.service.record import (
    InstanceRecord,
    JobRecord,
    LogLevel,
    LogRow,
    MigrationMethod,
    MigrationType,
    TaskRecord,
)
from engine.service.refusals import StoreFailed
from engine.service.wire_status import ExchangeStatus, WireStatus
from engine.settings import ResumeMode

LOG_ROWS_KEPT = 1000  # of each task, the newest
LOG_ROWS_SLACK = 100  # so that not each new row has to look for an old one


class Store:
    """Reads and writes records. Methods raise StoreFailed when the database does not take or give it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._engine = database.engine
        self._writing = asyncio.Lock()
        self._rows_since_trim: dict[str, int] = {}

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    async def ping(self) -> None:
        """Ask the database for nothing, and make sure that it is still ours."""
        try:
            is_ours = await self._database.keep_ownership()
        except (SQLAlchemyError, OSError) as error:
            raise StoreFailed(f"the store did not answer: {_cause(error)}") from error
        if not is_ours:
            raise StoreFailed("another redis-ferry serve has taken the store over")
        await self._rows(select(text("1")))

    # ---- tasks

    async def load_tasks(self) -> list[TaskRecord]:
        """All tasks, oldest first."""
        rows = await self._rows(select(tables.tasks).order_by(tables.tasks.c.created_at))
        return [_task_of(row) for row in rows]

    async def insert_task(self, record: TaskRecord, job: JobRecord | None) -> None:
        """Add a task and the job that made it."""
        statements = [insert(tables.tasks).values(_task_row(record))]
        if job is not None:
            statements.append(insert(tables.jobs).values(_job_row(job)))
        await self._write(statements)

    async def update_task(self, record: TaskRecord) -> None:
        """Replace a task's row; nothing happens if it is gone."""
        row = _task_row(record)
        task_id = row.pop("task_id")
        table = tables.tasks
        await self._write([update(table).where(table.c.task_id == task_id).values(row)])

    async def delete_task(self, task_id: str) -> None:
        """Remove a task with its logs and jobs."""
        self._rows_since_trim.pop(task_id, None)
        await self._write(
            [
                delete(tables.logs).where(tables.logs.c.task_id == task_id),
                delete(tables.jobs).where(tables.jobs.c.task_id == task_id),
                delete(tables.tasks).where(tables.tasks.c.task_id == task_id),
            ]
        )

    # ---- logs

    async def add_logs(self, rows: Sequence[LogRow]) -> None:
        """Add rows, oldest first, and drop each task's oldest ones over LOG_ROWS_KEPT.

        Rows of tasks that are gone are left out.
        """
        named = {row.task_id for row in rows}
        known = select(tables.tasks.c.task_id).where(tables.tasks.c.task_id.in_(named))
        kept = {str(found["task_id"]) for found in await self._rows(known)}
        new = [_log_row(row) for row in rows if row.task_id in kept]
        if not new:
            return
        statements: list[Any] = [insert(tables.logs).values(new)]
        for row in new:
            task_id = row["task_id"]
            self._rows_since_trim[task_id] = self._rows_since_trim.get(task_id, LOG_ROWS_SLACK) + 1
            if self._rows_since_trim[task_id] > LOG_ROWS_SLACK:
                self._rows_since_trim[task_id] = 0
                statements.append(_trim(task_id))
        await self._write(statements)

    async def logs(
        self, task_id: str, *, level: LogLevel | None, offset: int, limit: int
    ) -> tuple[int, list[LogRow]]:
        """How many rows match, and `limit` of them from `offset` on, newest first."""
        table = tables.logs
        matching = [table.c.task_id == task_id]
        if level is not None:
            matching.append(table.c.level == level.value)
        counted = await self._rows(select(func.count().label("n")).where(*matching))
        page = select(table).where(*matching).order_by(table.c.row_id.desc())
        rows = await self._rows(page.offset(offset).limit(limit)) if limit else []
        return int(counted[0]["n"]), [_log_of(row) for row in rows]

    # ---- jobs

    async def job(self, project_id: str, job_id: str) -> JobRecord | None:
        """One job of a project; None if there is no such."""
        table = tables.jobs
        found = await self._rows(
            select(table).where(table.c.job_id == job_id, table.c.project_id == project_id)
        )
        return _job_of(found[0]) if found else None

    # ---- the database

    async def _write(self, statements: Iterable[Any]) -> None:
        try:
            # SQLite has one writer at a time; those who wait here do not wait with a timeout there.
            async with self._writing, self._engine.begin() as connection:
                for statement in statements:
                    await connection.execute(statement)
        except (SQLAlchemyError, OSError) as error:
            raise StoreFailed(f"the store did not take a write: {_cause(error)}") from error

    async def _rows(self, statement: Any) -> list[dict[str, Any]]:
        try:
            async with self._engine.connect() as connection:
                found = await connection.execute(statement)
                return [dict(row) for row in found.mappings()]
        except (SQLAlchemyError, OSError) as error:
            raise StoreFailed(f"the store did not answer: {_cause(error)}") from error


def _cause(error: Exception) -> object:
    return error.orig if isinstance(error, DBAPIError) else error


def _trim(task_id: str) -> Any:
    table = tables.logs
    oldest_kept = (
        select(table.c.row_id)
        .where(table.c.task_id == task_id)
        .order_by(table.c.row_id.desc())
        .offset(LOG_ROWS_KEPT - 1)
        .limit(1)
        .scalar_subquery()
    )
    return delete(table).where(table.c.task_id == task_id, table.c.row_id < oldest_kept)


# ---- records and rows

_TASK_FIELDS = tuple(it.name for it in fields(TaskRecord))


def _time_text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")


def _time_of(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _task_row(record: TaskRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in _TASK_FIELDS}
    for name in ("created_at", "updated_at"):
        row[name] = _time_text(row[name])
    for name in ("source", "target"):
        row[name] = None if row[name] is None else row[name].as_dict()
    for name in ("status", "migration_type", "migration_method", "resume_mode", "task_status"):
        row[name] = None if row[name] is None else str(row[name])
    return row


def _task_of(row: dict[str, Any]) -> TaskRecord:
    known = {name: row[name] for name in _TASK_FIELDS}
    method, exchange = row["migration_method"], row["task_status"]
    sides = {
        name: None if row[name] is None else InstanceRecord.from_dict(row[name])
        for name in ("source", "target")
    }
    return TaskRecord(
        **known
        | sides
        | {
            "created_at": datetime.fromisoformat(row["created_at"]),
            "updated_at": _time_of(row["updated_at"]),
            "status": WireStatus(row["status"]),
            "migration_type": MigrationType(row["migration_type"]),
            "migration_method": None if method is None else MigrationMethod(method),
            "resume_mode": ResumeMode(row["resume_mode"]),
            "task_status": None if exchange is None else ExchangeStatus(exchange),
        }
    )


def _log_row(row: LogRow) -> dict[str, Any]:
    return {
        "task_id": row.task_id,
        "created_at": _time_text(row.created_at),
        "level": row.level.value,
        "message": row.message,
        "code": row.code,
        "keywords": list(row.keywords),
    }


def _log_of(row: dict[str, Any]) -> LogRow:
    return LogRow(
        task_id=row["task_id"],
        created_at=datetime.fromisoformat(row["created_at"]),
        level=LogLevel(row["level"]),
        message=row["message"],
        code=row["code"],
        keywords=tuple(row["keywords"]),
    )


def _job_row(job: JobRecord) -> dict[str, Any]:
    row = {it.name: getattr(job, it.name) for it in fields(JobRecord)}
    return row | {"begin_time": _time_text(job.begin_time), "end_time": _time_text(job.end_time)}


def _job_of(row: dict[str, Any]) -> JobRecord:
    return JobRecord(
        **row
        | {
            "begin_time": datetime.fromisoformat(row["begin_time"]),
            "end_time": _time_of(row["end_time"]),
        }
    )
