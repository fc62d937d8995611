"""Making the bodies that clients get out of the service's records."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import datetime
from typing import Any

from engine.control.api.shapes import (
    InstanceDetail,
    InstanceRow,
    JobInfo,
    LineDetail,
    PreflightFinding,
    PreflightReport,
    StartedTask,
    Stats,
    TaskDetail,
    TaskRow,
)
from engine.preflight.findings import Finding, worst
from engine.service.figures import Figures
from engine.service.instances import Instance
from engine.service.journal import shown_time
from engine.service.record import InstanceRecord, JobRecord, TaskRecord
from engine.supervision.status import TaskStatus


def preflight_report(findings: list[Finding]) -> PreflightReport:
    """The report's JSON form."""
    rows = [PreflightFinding(**asdict(it)) for it in findings]
    return PreflightReport(level=str(worst(findings)), findings=rows)


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


def line_details(record: TaskRecord, status: TaskStatus) -> list[LineDetail]:
    """A line for each shard of the source; with one only, its figures are the task's."""
    target = None if record.target is None else record.target.addrs
    if len(status.lines) < 2:
        whole = _finite(asdict(status))
        return [LineDetail(line="0", source=_data_source(record), target=target, status=whole)]
    return [
        LineDetail(line=it.name, source=it.source, target=target, status=_finite(asdict(it)))
        for it in status.lines
    ]


def _side(side: InstanceRecord | None) -> InstanceDetail | None:
    if side is None:
        return None
    host, _, port = side.addrs.partition(",")[0].rpartition(":")
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
