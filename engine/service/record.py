"""What is kept of a task, a log row and a job. Values only; the store writes them, the API shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from engine.service.wire_status import ExchangeStatus, WireStatus
from engine.settings import ResumeMode


class MigrationType(StrEnum):
    """Where the data comes from."""

    ONLINE = "online_migration"
    BACKUP_IMPORT = "backupfile_import"


class MigrationMethod(StrEnum):
    """How much is migrated."""

    FULL = "full_amount_migration"
    INCREMENTAL = "incremental_migration"


class LogLevel(StrEnum):
    """Severity of a task's log row."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


def storable(text: str) -> str:
    """`text` without what cannot be stored: PostgreSQL takes no NUL, and no database a lone surrogate."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of a registered instance, as paths on this machine."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """One side of a task. addrs: `host:port`. sealed_password: encrypted (see sealing.py), never in the clear."""

    addrs: str
    id: str | None = None
    name: str = ""
    username: str | None = None
    sealed_password: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    db: str = "0"
    proxy_multi_db: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that the store keeps."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> InstanceRecord:
        """Read `as_dict`'s form."""
        tls = fields.get("tls")
        return cls(**{**fields, "tls": None if tls is None else TlsFiles(**tls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task. Times are aware and UTC.

    run_number: rises with each configuration, so that a task that is configured anew does not meet the
    checkpoint of its former self. has_run: the engine has been connected on both sides in this run.
    task_status: of the exchange of addresses. backup_files: of a backup import, as the client gave them.
    last_figures: what the last stats showed, for a task that is not at work. source_version: of the source's server. bandwidth_limit_mb: None: no limit.
    """

    task_id: str
    project_id: str
    name: str
    created_at: datetime
    status: WireStatus = WireStatus.RUNNING
    description: str = ""
    migration_type: MigrationType = MigrationType.ONLINE
    migration_method: MigrationMethod | None = None
    resume_mode: ResumeMode = ResumeMode.AUTO
    bandwidth_limit_mb: int | None = None
    vpc_id: str | None = None
    subnet_id: str | None = None
    security_group_id: str | None = None
    network_type: str | None = None
    source: InstanceRecord | None = None
    target: InstanceRecord | None = None
    backup_files: dict[str, Any] | None = None
    updated_at: datetime | None = None
    error_message: str | None = None
    task_status: ExchangeStatus | None = None
    run_number: int = 0
    has_run: bool = False
    last_figures: dict[str, Any] | None = None
    source_version: str | None = None

    @property
    def engine_task_id(self) -> str:
        """The name of the engine's task and so of its checkpoint in the target."""
        return self.task_id if self.run_number <= 1 else f"{self.task_id}-{self.run_number}"

    def changed(self, **changes: Any) -> TaskRecord:
        """A copy with `changes`."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One event of a task, as the logs call shows it. code: the event's name. keywords: its facts."""

    task_id: str
    created_at: datetime
    level: LogLevel
    message: str
    code: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What `GET /jobs/{job_id}` shows. status: INIT, RUNNING, SUCCESS or FAIL."""

    job_id: str
    project_id: str
    task_id: str
    job_type: str
    status: str
    begin_time: datetime
    end_time: datetime | None = None
    fail_reason: str | None = None
