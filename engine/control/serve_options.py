"""Options of `serve`: flags, REDIS_FERRY_SERVE_* variables and a TOML file, checked and merged in this order."""

from __future__ import annotations

import difflib
import ipaddress
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from engine.control.address_map import ADDRESS_MAP, read_address_map
from engine.control.api.auth.auth_file import AuthSettings, read_auth_file
from engine.control.choices import LogFormat, LogLevel
from engine.control.listen_address import parse_listen
from engine.control.option_files import read_toml
from engine.control.state_folder import default_spool_dir
from engine.errors import ConfigError
from engine.service.database import sqlite_url
from engine.service.exchange import ExchangeHook
from engine.service.instances import Instances, read_instances
from engine.service.sealing import Seal, read_or_make_key
from engine.settings import (
    GIB,
    MIB,
    ClusterSettings,
    CrossSlotPolicy,
    FieldTtlPolicy,
    ReadFrom,
    ScanChanges,
    SourceReader,
    SpoolSettings,
    UnsupportedPolicy,
)

PREFIX = "REDIS_FERRY_SERVE_"
DEFAULT_LISTEN = "127.0.0.1:8000"


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    listen: str = DEFAULT_LISTEN
    state_dir: Path | None = None
    database_url: SecretStr | None = None
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None
    auth_file: Path | None = None
    instances: Path | None = None
    backup_dir: Path | None = None
    exchange_command: str | None = None
    exchange_webhook: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    advertise_address: str | None = None
    request_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    spool_memory_mb: Annotated[int, Field(ge=8, le=65536)] = 32
    spool_disk_gb: Annotated[int, Field(ge=0, le=65536)] = 16
    on_unsupported: UnsupportedPolicy = UnsupportedPolicy.STOP
    field_ttls: FieldTtlPolicy = FieldTtlPolicy.REFUSE
    on_cross_slot: CrossSlotPolicy = CrossSlotPolicy.RESOLVE
    big_value_mb: Annotated[int, Field(ge=1, le=512)] = 16
    source_reader: SourceReader = SourceReader.PSYNC
    scan_changes: ScanChanges = ScanChanges.AUTO
    read_from: ReadFrom = ReadFrom.PRIMARY
    snapshots_per_host: Annotated[int, Field(ge=0, le=1000)] = 1
    address_map: Annotated[str, Field(pattern=ADDRESS_MAP)] | None = None
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.TEXT


_FIELDS = tuple(_Values.model_fields)
_ENVIRONMENT_ONLY = frozenset({"secret_key"})  # ps would show it, repositories would keep it


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Everything `serve` needs. auth: None: everybody is let in, and `host` is loopback."""

    host: str
    port: int
    state_dir: Path
    database_url: str
    seal: Seal
    auth: AuthSettings | None
    instances: Instances
    backup_dir: Path | None
    hook: ExchangeHook
    tls_cert: Path | None
    tls_key: Path | None
    worker_ip: str
    request_timeout_seconds: float
    spool: SpoolSettings
    on_unsupported: UnsupportedPolicy
    field_ttls: FieldTtlPolicy
    on_cross_slot: CrossSlotPolicy
    big_value_bytes: int
    source_reader: SourceReader
    scan_changes: ScanChanges
    cluster: ClusterSettings
    address_map: tuple[tuple[str, str], ...]
    log_level: LogLevel
    log_format: LogFormat
    warnings: tuple[str, ...] = ()


def read_serve_options(flags: Mapping[str, Any], environment: Mapping[str, str]) -> ServeOptions:
    """Merge and check. flags: those given, by field name, and `config`.

    Raises:
        ConfigError: names the flag, variable or key at fault.
    """
    values = _merge(flags, environment)
    host, port = parse_listen(values.listen, option="--listen", example=DEFAULT_LISTEN)
    auth = None if values.auth_file is None else read_auth_file(values.auth_file)
    is_loopback = _is_loopback(host)
    if auth is None and not is_loopback:
        raise ConfigError(
            f"nobody has to authenticate, so {host} cannot be listened on",
            hint="give --auth-file, or listen on 127.0.0.1",
        )
    if (values.tls_cert is None) != (values.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key belong together", hint="give both or none")
    for path in (values.tls_cert, values.tls_key):
        if path is not None and not path.is_file():
            raise ConfigError(f"cannot read {path}", hint="--tls-cert and --tls-key are PEM files")
    if values.backup_dir is not None and not values.backup_dir.is_dir():
        raise ConfigError(f"the backup folder {values.backup_dir} is not there")
    state_dir = (values.state_dir or _default_state_dir(environment)).absolute()
    warnings = []
    if auth is None:
        warnings.append("everybody on this machine is let in; --auth-file asks for a token")
    if values.tls_cert is None and not is_loopback:
        warnings.append("passwords and tokens cross the network unencrypted; use --tls-cert")
    return ServeOptions(
        host=host,
        port=port,
        state_dir=state_dir,
        database_url=_secret(values.database_url) or sqlite_url(state_dir),
        seal=Seal(_key(values, state_dir)),
        auth=auth,
        instances=read_instances(values.instances),
        backup_dir=values.backup_dir,
        hook=_hook(values),
        tls_cert=values.tls_cert,
        tls_key=values.tls_key,
        worker_ip=values.advertise_address or (host if host not in ("0.0.0.0", "::") else ""),  # noqa: S104
        request_timeout_seconds=values.request_timeout_seconds,
        spool=SpoolSettings(
            memory_bytes=values.spool_memory_mb * MIB, disk_bytes=values.spool_disk_gb * GIB
        ),
        on_unsupported=values.on_unsupported,
        field_ttls=values.field_ttls,
        on_cross_slot=values.on_cross_slot,
        big_value_bytes=values.big_value_mb * MIB,
        source_reader=values.source_reader,
        scan_changes=values.scan_changes,
        cluster=ClusterSettings(
            read_from=values.read_from, snapshots_per_host=values.snapshots_per_host
        ),
        address_map=read_address_map(values.address_map),
        log_level=values.log_level,
        log_format=values.log_format,
        warnings=tuple(warnings),
    )


def _default_state_dir(environment: Mapping[str, str]) -> Path:
    """Beside the folder of `sync` and not in it: every folder there is a task's."""
    spool_dir = default_spool_dir(environment)
    return spool_dir.with_name(f"{spool_dir.name}-service")


def _merge(flags: Mapping[str, Any], environment: Mapping[str, str]) -> _Values:
    table: dict[str, Any] = {}
    if config := flags.get("config") or environment.get(f"{PREFIX}CONFIG"):
        table = read_toml(Path(config))
        for name in table:
            if name in _ENVIRONMENT_ONLY or name not in _FIELDS:
                raise ConfigError(
                    f"{name} does not belong in the settings file {config}",
                    hint=f"did you mean {_nearest(name, set(_FIELDS) - _ENVIRONMENT_ONLY)}?",
                )
    variables = {}
    known = {f"{PREFIX}{name.upper()}": name for name in _FIELDS} | {f"{PREFIX}CONFIG": "config"}
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and value:
            if variable not in known:
                raise ConfigError(
                    f"unknown environment variable {variable}",
                    hint=f"did you mean {_nearest(variable, set(known))}?",
                )
            if known[variable] != "config":
                variables[known[variable]] = value
    given = {name: it for name, it in flags.items() if name != "config" and it is not None}
    try:
        return _Values(**{**table, **variables, **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])
    raise ConfigError(
        f"--{name.replace('_', '-')} (or {PREFIX}{name.upper()}) cannot be used: {first['msg']}",
        hint="see redis-ferry serve --help",
    )


def _nearest(name: str, known: set[str]) -> str:
    return str(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(values: _Values, state_dir: Path) -> str:
    if values.secret_key is not None:
        return values.secret_key.get_secret_value()
    path = values.secret_key_file or state_dir / "secret.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"the folder {path.parent} cannot be made: {error.strerror}",
            hint="give one that this user may write with --state-dir",
        ) from None
    return read_or_make_key(path)


def _hook(values: _Values) -> ExchangeHook:
    if values.exchange_command and values.exchange_webhook:
        raise ConfigError("--exchange-command and --exchange-webhook exclude each other")
    webhook = values.exchange_webhook
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise ConfigError("--exchange-webhook is no http:// or https:// URL")
    try:
        command = tuple(shlex.split(values.exchange_command or ""))
    except ValueError as error:
        raise ConfigError(f"--exchange-command cannot be read: {error}") from None
    return ExchangeHook(command=command, webhook=webhook)


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
