"""The store's tables. What is asked for stands in columns of its own; the rest of a record is JSON."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()
# SQLite numbers rows by itself only in a column that is exactly INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", String(64), primary_key=True),
    Column("project_id", String(64), nullable=False, index=True),
    Column("name", String(256), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("status", String(32), nullable=False),
    Column("description", Text, nullable=False),
    Column("migration_type", String(32), nullable=False),
    Column("migration_method", String(32)),
    Column("resume_mode", String(16), nullable=False),
    Column("bandwidth_limit_mb", Integer),
    Column("vpc_id", String(64)),
    Column("subnet_id", String(64)),
    Column("security_group_id", String(64)),
    Column("network_type", String(32)),
    Column("source", JSON),
    Column("target", JSON),
    Column("backup_files", JSON),
    Column("updated_at", String(32)),
    Column("error_message", Text),
    Column("task_status", String(32)),
    Column("run_number", Integer, nullable=False),
    Column("has_run", Boolean, nullable=False),
    Column("last_figures", JSON),
    Column("source_version", String(64)),
)

logs = Table(
    "task_logs",
    metadata,
    Column("row_id", _RowId, primary_key=True, autoincrement=True),
    Column(
        "task_id",
        String(64),
        ForeignKey("tasks.task_id", ondelete="CASCADE", name="fk_task_logs_task_id"),
        nullable=False,
    ),
    Column("created_at", String(32), nullable=False),
    Column("level", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("code", String(128), nullable=False),
    Column("keywords", JSON, nullable=False),
    Index("ix_task_logs_task_id_row_id", "task_id", "row_id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("task_id", String(64), nullable=False, index=True),
    Column("job_type", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("begin_time", String(32), nullable=False),
    Column("end_time", String(32)),
    Column("fail_reason", Text),
)
