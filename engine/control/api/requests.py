"""The bodies that clients send. Unknown members are ignored and null is absent, as the service that this API is of does."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    WithJsonSchema,
)

from engine.service.orders import (
    Configuration,
    ExchangeOrder,
    InstanceChoice,
    NewImport,
    NewTask,
)
from engine.service.record import MigrationMethod, MigrationType
from engine.settings import ResumeMode

NAME = r"^[A-Za-z][A-Za-z0-9_-]{3,63}$"
UUID = r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$"
BATCH_LIMIT = 50


def _no_nul(value: object) -> object:
    # PostgreSQL stores no NUL, and no UTF-8 has lone surrogates; neither is part of any honest value.
    if isinstance(value, str) and ("\x00" in value or _is_broken(value)):
        raise ValueError("characters that cannot be stored")
    return value


def _is_broken(value: str) -> bool:
    return any("\ud800" <= it <= "\udfff" for it in value)


def _limit(value: object) -> object:
    """A JSON integer or a string of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("not an integer or a string of digits")


Text64 = Annotated[StrictStr, BeforeValidator(_no_nul), Field(min_length=1, max_length=64)]
Text255 = Annotated[StrictStr, BeforeValidator(_no_nul), Field(max_length=255)]
Text1024 = Annotated[StrictStr, BeforeValidator(_no_nul), Field(max_length=1024)]
Text4096 = Annotated[StrictStr, BeforeValidator(_no_nul), Field(max_length=4096)]
Name = Annotated[StrictStr, Field(pattern=NAME)]
BandwidthLimit = Annotated[
    Annotated[int, BeforeValidator(_limit), Field(ge=1, le=10240)] | None,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 10240},
                {
                    "type": "string",
                    "pattern": "^([1-9][0-9]{0,3}|10[01][0-9]{2}|102[0-3][0-9]|10240)$",
                },
                {"type": "null"},
            ]
        }
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class CreateOnlineTask(_Body):
    """Call 1: an online task, to be configured by call 2."""

    name: Name
    description: Text1024 | None = None
    vpc_id: Text64
    subnet_id: Text64
    security_group_id: Text64

    def order(self) -> NewTask:
        """The service's form."""
        return NewTask(
            name=self.name,
            description=self.description or "",
            vpc_id=self.vpc_id,
            subnet_id=self.subnet_id,
            security_group_id=self.security_group_id,
        )


class InstanceBody(_Body):
    """One side: a registered instance by `id`, or `addrs` as host:port."""

    id: Text255 | None = None
    addrs: Text4096 | None = None
    password: Text1024 | None = None
    name: Text255 | None = None
    db: Text64 | None = None
    proxy_multi_db: StrictBool | None = None

    def choice(self) -> InstanceChoice:
        """The service's form."""
        return InstanceChoice(
            id=self.id or None,
            addrs=self.addrs or None,
            password=self.password,
            name=self.name,
            db=self.db,
            proxy_multi_db=self.proxy_multi_db,
        )


class ConfigureTask(_Body):
    """Call 2: what an online task is to do; it starts at once."""

    migration_method: MigrationMethod
    resume_mode: ResumeMode
    bandwidth_limit_mb: BandwidthLimit = None
    source_instance: InstanceBody
    target_instance: InstanceBody

    def order(self) -> Configuration:
        """The service's form."""
        return Configuration(
            method=self.migration_method,
            resume_mode=self.resume_mode,
            bandwidth_limit_mb=self.bandwidth_limit_mb,
            source=self.source_instance.choice(),
            target=self.target_instance.choice(),
        )


class BackupFile(_Body):
    """One file of a backup."""

    file_name: Text1024
    size: Text64 | None = None
    update_at: Text64 | None = None


class BackupFiles(_Body):
    """Where the backup is."""

    file_source: Text64 | None = None
    bucket_name: Text255 | None = None
    files: Annotated[list[BackupFile], Field(max_length=100)] | None = None
    backup_id: Text255 | None = None


class CreateImport(_Body):
    """Call 3: import of a backup file; it starts at once."""

    task_name: Name
    description: Text1024 | None = None
    migration_type: MigrationType
    migration_method: MigrationMethod
    backup_files: BackupFiles | None = None
    network_type: Text64 | None = None
    target_instance: InstanceBody

    def order(self) -> NewImport:
        """The service's form."""
        return NewImport(
            name=self.task_name,
            description=self.description or "",
            method=self.migration_method,
            network_type=self.network_type,
            target=self.target_instance.choice(),
            backup_files={} if self.backup_files is None else self.backup_files.model_dump(),
        )


class UpdateTask(_Body):
    """Call 8: what follows a lost link."""

    resume_mode: ResumeMode | None = None


class TaskIds(_Body):
    """Calls 11 and 12."""

    migration_tasks: list[Annotated[StrictStr, Field(pattern=UUID)]] = Field(
        min_length=1, max_length=BATCH_LIMIT
    )


class DeleteTasks(_Body):
    """Call 13."""

    task_id_list: list[Annotated[StrictStr, Field(pattern=UUID)]] = Field(
        min_length=1, max_length=1000
    )


class ExchangeIp(_Body):
    """Call 14; both members may be left out."""

    exchanged_ip: Annotated[list[Text255], Field(max_length=100)] | None = None
    is_exchange_domain: StrictBool | None = None

    def order(self) -> ExchangeOrder:
        """The service's form."""
        return ExchangeOrder(
            exchanged_ip=tuple(self.exchanged_ip or ()),
            is_exchange_domain=bool(self.is_exchange_domain),
        )


class Connectivity(_Body):
    """Call 16."""

    id: Text255 | None = None
    addrs: Text4096 | None = None
    password: Text1024 | None = None
    name: Text255 | None = None

    def choice(self) -> InstanceChoice:
        """The service's form."""
        return InstanceChoice(
            id=self.id or None, addrs=self.addrs or None, password=self.password, name=self.name
        )


class ChangeLimit(_Body):
    """Ours: the live bandwidth limit; null lifts it."""

    bandwidth_limit_mb: BandwidthLimit
