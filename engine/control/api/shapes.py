"""The shapes of the bodies that clients get. Every field is there; what has no value is null."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from engine.service.wire_status import ExchangeStatus, WireStatus


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


class NotAppliedRow(BaseModel):
    """Ours: a key or a command that the target cannot hold and that was left out. key: what is no UTF-8 is escaped."""

    db: int
    key: str
    what: str
    why: str


class NotAppliedList(BaseModel):
    """Ours: what was left out; all of it counts, a page of it is shown."""

    not_applied_num: int
    not_applied: list[NotAppliedRow]


class CrossSlotRow(BaseModel):
    """Ours: a command over several slots. handled: split, resolved (its effect came from the source) or stopped.

    keys: at most eight of key_count, cut; what is no UTF-8 is escaped; of MULTI none. offset: end of the block in which it
    stood. count: MULTIs of one block are told together.
    """

    ts: float
    command: str
    keys: list[str]
    key_count: int
    offset: int
    handled: str
    count: int


class CrossSlotEventList(BaseModel):
    """Ours: the latest commands over several slots, some 100,000; all of these count, a page is shown."""

    cross_slot_num: int
    cross_slot: list[CrossSlotRow]


class PreflightFinding(BaseModel):
    """Ours: one line of the report. level: ok, warning or refusal. side: source, target or here."""

    level: str
    side: str
    name: str
    text: str
    remedy: str


class PreflightReport(BaseModel):
    """Ours: what stands against a migration. level: the worst of its findings."""

    level: str
    findings: list[PreflightFinding]
