"""What clients ask for, after the API has read and checked the form of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.service.record import MigrationMethod
from engine.settings import ResumeMode


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceChoice:
    """One side as the client names it: a registered instance by id, or addresses."""

    id: str | None = None
    addrs: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str | None = None
    db: str | None = None
    proxy_multi_db: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """An online task that is yet to be configured."""

    name: str
    vpc_id: str
    subnet_id: str
    security_group_id: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What an online task is to do."""

    method: MigrationMethod
    resume_mode: ResumeMode
    source: InstanceChoice
    target: InstanceChoice
    bandwidth_limit_mb: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImport:
    """A backup import; it starts at once."""

    name: str
    target: InstanceChoice
    backup_files: dict[str, Any]
    method: MigrationMethod = MigrationMethod.FULL
    description: str = ""
    network_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOrder:
    """Which addresses are to be exchanged; both may be left out."""

    exchanged_ip: tuple[str, ...] = ()
    is_exchange_domain: bool = False
