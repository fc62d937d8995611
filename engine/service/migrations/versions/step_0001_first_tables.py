"""Tasks, their logs, jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("migration_type", sa.String(32), nullable=False),
        sa.Column("migration_method", sa.String(32)),
        sa.Column("resume_mode", sa.String(16), nullable=False),
        sa.Column("bandwidth_limit_mb", sa.Integer),
        sa.Column("vpc_id", sa.String(64)),
        sa.Column("subnet_id", sa.String(64)),
        sa.Column("security_group_id", sa.String(64)),
        sa.Column("network_type", sa.String(32)),
        sa.Column("source", sa.JSON),
        sa.Column("target", sa.JSON),
        sa.Column("backup_files", sa.JSON),
        sa.Column("updated_at", sa.String(32)),
        sa.Column("error_message", sa.Text),
        sa.Column("task_status", sa.String(32)),
        sa.Column("run_number", sa.Integer, nullable=False),
        sa.Column("has_run", sa.Boolean, nullable=False),
        sa.Column("last_figures", sa.JSON),
        sa.Column("source_version", sa.String(64)),
    )
    op.create_index("ix_tasks_project_id", "tasks", ["project_id"])
    op.create_table(
        "task_logs",
        sa.Column("row_id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column(
            "task_id",
            sa.String(64),
            sa.ForeignKey("tasks.task_id", ondelete="CASCADE", name="fk_task_logs_task_id"),
            nullable=False,
        ),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("code", sa.String(128), nullable=False),
        sa.Column("keywords", sa.JSON, nullable=False),
    )
    op.create_index("ix_task_logs_task_id_row_id", "task_logs", ["task_id", "row_id"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("task_id", sa.String(64), nullable=False),
        sa.Column("job_type", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("begin_time", sa.String(32), nullable=False),
        sa.Column("end_time", sa.String(32)),
        sa.Column("fail_reason", sa.Text),
    )
    op.create_index("ix_jobs_task_id", "jobs", ["task_id"])


def downgrade() -> None:
    """Drop everything."""
    for name in ("jobs", "task_logs", "tasks"):
        op.drop_table(name)
