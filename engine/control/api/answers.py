"""The bodies that clients get. Every field is there; what has no value is null."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from engine.service.figures import Figures
from engine.service.instances import Instance
from engine.service.journal import shown_time
from engine.service.record import InstanceRecord, JobRecord, TaskRecord
from engine.service.wire_status import ExchangeStatus, WireStatus
from engine.supervision.status import TaskStatus


class ErrorBody(BaseModel):
    """Of every error."""

    error_code: str
    error_msg: str
    error_ext_msg: str | None = None
    request_id: str | None = None


class CreatedTask(BaseModel):
    """Call 1. instance_id is the task's id."""

    instance_id: str
    job_id: str


class StartedTask(BaseModel):
    """Calls 2 and 3."""

    id: str
    name: str
    status: WireStatus
    error: str


class TaskRow(BaseModel):
    """A task in the list."""

    task_id: str
    task_name: str
    status: WireStatus
    migration_type: str
    migration_method: str | None
    ecs_tenant_private_ip: str | None
    data_source: str | None
    source_instance_name: str | None
    source_instance_id: str | None
    target_instance_addrs: str | None
    target_instance_name: str | None
    target_instance_id: str | None
    created_at: str
    description: str
    source_instance_status: str | None
    target_instance_status: str | None
    source_instance_subnet_id: str | None
    target_instance_subnet_id: str | None
    source_instance_spec_code: str | None
    target_instance_spec_code: str | None
    error_message: str | None
    released_at: str | None
    version: str | None
    resume_mode: str
    supported_features: list[str]
    task_status: ExchangeStatus | None


class TaskList(BaseModel):
    """Call 4. count: all that match, not the page."""

    count: int
    migration_tasks: list[TaskRow]


class InstanceDetail(BaseModel):
    """One side in call 5; the password is never shown."""

    addrs: str
    task_status: str
    id: str | None
    ip: str
    port: str
    name: str
    proxy_multi_db: bool
    db: str


class TaskDetail(BaseModel):
    """Calls 5 and 9."""

    task_id: str
    task_name: str
    description: str
    status: WireStatus
    migration_type: str
    migration_method: str | None
    ecs_tenant_private_ip: str | None
    backup_files: dict[str, Any] | None
    network_type: str | None
    source_instance: InstanceDetail | None
    target_instance: InstanceDetail | None
    created_at: str
    updated_at: str | None
    released_at: str | None
    version: str | None
    resume_mode: str
    supported_features: list[str]
    tenant_vpc_id: str | None
    tenant_subnet_id: str | None
    tenant_security_group_id: str | None
    bandwidth_limit_mb: str | None
    task_status: ExchangeStatus | None
    error_message: str | None


class Stats(BaseModel):
    """Call 6: numbers as strings, as the API declares them. offset: bytes behind."""

    full_migration_progress: str
    offset: str
    source_dbsize: str
    target_dbsize: str
    target_input_kbps: str
    target_ops: str
    is_migrating: bool


class LogEntry(BaseModel):
    """One event."""

    created_at: str
    log_level: str
    message: str
    log_code: str
    keyword: list[str]


class LogList(BaseModel):
    """Call 7, newest first. log_num: all that match."""

    log_num: int
    migration_logs: list[LogEntry]


class BatchResult(BaseModel):
    """What became of one task."""

    task_id: str
    result: str
    error_code: str | None = None
    error_msg: str | None = None


class BatchAnswer(BaseModel):
    """Calls 11 and 12."""

    migration_tasks: list[BatchResult]


class DeletedTasks(BaseModel):
    """Call 13."""

    task_id_list: list[str]


class JobInfo(BaseModel):
    """Call 18; times in milliseconds."""

    job_id: str
    job_type: str
    status: str
    begin_time: str
    end_time: str | None
    fail_reason: str | None


class InstanceRow(BaseModel):
    """Ours: a registered instance."""

    instance_id: str
    name: str
    ip: str
    port: int
    addrs: str
    engine: str
    status: str
    enable_ssl: bool
    access_user: str | None


class InstanceList(BaseModel):
    """Ours: all registered instances that the project sees."""

    instance_num: int
    instances: list[InstanceRow]


class LimitAnswer(BaseModel):
    """Ours: the limit that is in force; null: none."""

    bandwidth_limit_mb: str | None


class LineDetail(BaseModel):
    """Ours: one line of a task at work. Offsets in bytes of the source's stream."""

    line: str
    source: str | None
    target: str | None
    status: dict[str, Any]


class LineList(BaseModel):
    """Ours: the lines of a task; empty when it is not at work."""

    lines: list[LineDetail]


def started(record: TaskRecord) -> StartedTask:
    """The answer of a call that has started a task."""
    return StartedTask(id=record.task_id, name=record.name, status=record.status, error="")


def task_row(record: TaskRecord, worker_ip: str) -> TaskRow:
    """A task's row of the list."""
    source, target = record.source, record.target
    return TaskRow(
        task_id=record.task_id,
        task_name=record.name,
        status=record.status,
        migration_type=str(record.migration_type),
        migration_method=_text(record.migration_method),
        ecs_tenant_private_ip=worker_ip,
        data_source=_data_source(record),
        source_instance_name=None if source is None else source.name,
        source_instance_id=None if source is None else source.id or "",
        target_instance_addrs=None if target is None else target.addrs,
        target_instance_name=None if target is None else target.name,
        target_instance_id=None if target is None else target.id or "",
        created_at=shown_time(record.created_at),
        description=record.description,
        source_instance_status=None if source is None else "RUNNING",
        target_instance_status=None if target is None else "RUNNING",
        source_instance_subnet_id=None,
        target_instance_subnet_id=None,
        source_instance_spec_code=None,
        target_instance_spec_code=None,
        error_message=record.error_message,
        released_at=None,
        version=record.source_version,
        resume_mode=str(record.resume_mode),
        supported_features=[],
        task_status=record.task_status,
    )


def task_detail(record: TaskRecord, worker_ip: str) -> TaskDetail:
    """Everything about a task but its passwords."""
    limit = record.bandwidth_limit_mb
    return TaskDetail(
        task_id=record.task_id,
        task_name=record.name,
        description=record.description,
        status=record.status,
        migration_type=str(record.migration_type),
        migration_method=_text(record.migration_method),
        ecs_tenant_private_ip=worker_ip,
        backup_files=record.backup_files,
        network_type=record.network_type,
        source_instance=_side(record.source),
        target_instance=_side(record.target),
        created_at=shown_time(record.created_at),
        updated_at=_time(record.updated_at),
        released_at=None,
        version=record.source_version,
        resume_mode=str(record.resume_mode),
        supported_features=[],
        tenant_vpc_id=record.vpc_id,
        tenant_subnet_id=record.subnet_id,
        tenant_security_group_id=record.security_group_id,
        bandwidth_limit_mb=None if limit is None else str(limit),
        task_status=record.task_status,
        error_message=record.error_message,
    )


def stats(figures: Figures) -> Stats:
    """Figures as call 6 shows them."""
    return Stats(
        full_migration_progress=f"{figures.full_migration_progress:g}",
        offset=str(figures.offset),
        source_dbsize=str(figures.source_dbsize),
        target_dbsize=str(figures.target_dbsize),
        target_input_kbps=str(figures.target_input_kbps),
        target_ops=str(figures.target_ops),
        is_migrating=figures.is_migrating,
    )


def job_info(job: JobRecord) -> JobInfo:
    """A job as call 18 shows it."""
    return JobInfo(
        job_id=job.job_id,
        job_type=job.job_type,
        status=job.status,
        begin_time=_milliseconds(job.begin_time),
        end_time=None if job.end_time is None else _milliseconds(job.end_time),
        fail_reason=job.fail_reason,
    )


def instance_row(instance: Instance) -> InstanceRow:
    """A registered instance; never its password."""
    host, _, port = instance.addrs.split(",")[0].strip().rpartition(":")
    return InstanceRow(
        instance_id=instance.id,
        name=instance.name,
        ip=host,
        port=int(port),
        addrs=instance.addrs,
        engine="Redis",
        status="RUNNING",
        enable_ssl=instance.tls is not None,
        access_user=instance.username,
    )


def line_detail(record: TaskRecord, status: TaskStatus) -> LineDetail:
    """The one line there is today."""
    return LineDetail(
        line="0",
        source=_data_source(record),
        target=None if record.target is None else record.target.addrs,
        status=_finite(asdict(status)),
    )


def _side(side: InstanceRecord | None) -> InstanceDetail | None:
    if side is None:
        return None
    host, _, port = side.addrs.rpartition(":")
    return InstanceDetail(
        addrs=side.addrs,
        task_status="RUNNING",
        id=side.id,
        ip=host.strip("[]"),
        port=port,
        name=side.name,
        proxy_multi_db=side.proxy_multi_db,
        db=side.db,
    )


def _data_source(record: TaskRecord) -> str | None:
    if record.source is not None:
        return record.source.addrs
    return None if record.backup_files is None else record.backup_files.get("bucket_name") or ""


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity and no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _time(time: datetime | None) -> str | None:
    return None if time is None else shown_time(time)


def _milliseconds(time: datetime) -> str:
    return str(int(time.timestamp() * 1000))
