"""Flags, environment and settings file merged into one checked set of options.

In rising priority: the TOML file of `--config`, the variables `REDIS_FERRY_*`, the flags. A
password comes from the first that has one: its file, its environment variable, the URL.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from engine.control.address_map import ADDRESS_MAP
from engine.control.choices import AofTail, LogFormat, LogLevel, ProgressMode
from engine.control.listen_address import parse_listen
from engine.control.option_files import (
    method_for,
    read_toml,
    source_file_of,
)
from engine.control.progress import draws_bars
from engine.control.selection_options import SELECTION_ALLOWED, SelectionValues, selection_of
from engine.control.side_options import ENV_PREFIX, endpoint_of
from engine.control.state_folder import default_spool_dir, task_folder
from engine.control.task_names import derive_task_id
from engine.endpoint import Endpoint
from engine.errors import ConfigError
from engine.settings import (
    GIB,
    MIB,
    ClusterSettings,
    ConflictPolicy,
    CrossSlotPolicy,
    DeliveryMode,
    FieldTtlPolicy,
    Method,
    ReadFrom,
    ResumeMode,
    ScanChanges,
    SourceReader,
    SpoolSettings,
    TaskSettings,
    UnsupportedPolicy,
)
from engine.stats import ReaderStats

QUOTE_LIMIT = 60  # characters of a wrong value that an error shows
TASK_ID = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"  # also the name of a folder

# Read by setup.py; an image or a CI job may leave them set.
BUILD_VARIABLES = frozenset({f"{ENV_PREFIX}REQUIRE_COMPILED", f"{ENV_PREFIX}SKIP_COMPILED"})

# Of `redis-ferry serve` and `redis-ferry task`, which check them themselves.
_OTHER_COMMANDS = (f"{ENV_PREFIX}SERVE_", f"{ENV_PREFIX}API_")

# Kubernetes puts the addresses of a namespace's services into every pod's environment; a Service
# called `redis-ferry` or `redis-ferry-…` gives names with our prefix that nobody wrote on purpose.
_KUBERNETES_SERVICE = re.compile(
    r"REDIS_FERRY_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)\w*)?)"
)


def _no_number_in_disguise(value: object) -> object:
    # pydantic takes True as 1 and 8.0 as 8; in a settings file both are mistakes.
    if isinstance(value, bool | float):
        raise ValueError("not an integer")  # noqa: TRY004 - pydantic wants a ValueError
    return value


def _no_truth_in_disguise(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("not a truth value")  # noqa: TRY004 - pydantic wants a ValueError
    return value


_Integer = Annotated[int, BeforeValidator(_no_number_in_disguise)]
_Switch = Annotated[bool, BeforeValidator(_no_truth_in_disguise)]


class SyncValues(SelectionValues):
    """What the user wrote, typed and within its ranges; None or defaults where nothing was.

    A field's name is its key in the TOML file, with `REDIS_FERRY_` before it its variable, and with
    `-` for `_` its flag.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,  # container files often declare a variable and leave it empty
        extra="forbid",
        hide_input_in_errors=True,
    )

    source: SecretStr | None = None
    target: SecretStr | None = None
    method: Method = Method.INCREMENTAL
    exit_when_synced: _Switch = False
    aof_truncated: AofTail = AofTail.LOAD
    source_reader: SourceReader = SourceReader.PSYNC
    scan_changes: ScanChanges = ScanChanges.AUTO
    bandwidth_limit_mb: Annotated[_Integer, Field(ge=1, le=10240)] | None = None
    on_conflict: ConflictPolicy = ConflictPolicy.REPLACE
    on_unsupported: UnsupportedPolicy = UnsupportedPolicy.STOP
    field_ttls: FieldTtlPolicy = FieldTtlPolicy.REFUSE
    on_cross_slot: CrossSlotPolicy = CrossSlotPolicy.RESOLVE
    big_value_mb: Annotated[_Integer, Field(ge=1, le=512)] = 16
    resume_mode: ResumeMode = ResumeMode.AUTO
    task_id: Annotated[str, Field(pattern=f"^{TASK_ID}$")] | None = None
    delivery: DeliveryMode = DeliveryMode.EXACTLY_ONCE
    spool_memory_mb: Annotated[_Integer, Field(ge=8, le=65536)] = 32
    spool_tail_mb: Annotated[_Integer, Field(ge=0, le=65536)] = 16
    spool_dir: Path | None = None
    spool_disk_gb: Annotated[_Integer, Field(ge=0, le=65536)] = 16
    progress: ProgressMode = ProgressMode.AUTO
    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.TEXT
    metrics_listen: str | None = None
    read_from: ReadFrom = ReadFrom.PRIMARY
    snapshots_per_host: Annotated[_Integer, Field(ge=0, le=1000)] = 1
    address_map: Annotated[str, Field(pattern=ADDRESS_MAP)] | None = None
    source_sentinel_user: str | None = None
    source_sentinel_password: SecretStr | None = None
    source_sentinel_password_file: Path | None = None
    target_sentinel_user: str | None = None
    target_sentinel_password: SecretStr | None = None
    target_sentinel_password_file: Path | None = None
    source_password: SecretStr | None = None
    source_password_file: Path | None = None
    source_tls_ca: Path | None = None
    source_tls_cert: Path | None = None
    source_tls_key: Path | None = None
    source_tls_insecure: _Switch = False
    target_password: SecretStr | None = None
    target_password_file: Path | None = None
    target_tls_ca: Path | None = None
    target_tls_cert: Path | None = None
    target_tls_key: Path | None = None
    target_tls_insecure: _Switch = False


_FIELDS = tuple(SyncValues.model_fields)
# Passwords have no flag (ps would show it) and no TOML key (settings files end up in repositories).
_ENVIRONMENT_ONLY = frozenset(
    {
        "source_password",
        "target_password",
        "source_sentinel_password",
        "target_sentinel_password",
    }
)
_TOML_KEYS = tuple(name for name in _FIELDS if name not in _ENVIRONMENT_ONLY)
# A value is quoted in an error only if it cannot hold a password.
_NEVER_QUOTED = frozenset({"source", "target", *_ENVIRONMENT_ONLY})

_ALLOWED = {
    "source": "a URL like redis://host:6379",
    "target": "a URL like redis://host:6379",
    "method": "full or incremental",
    "exit_when_synced": "true or false",
    "aof_truncated": "load or refuse",
    "source_reader": "psync, scan or auto",
    "scan_changes": "auto, notifications, enable or passes",
    "bandwidth_limit_mb": "an integer from 1 to 10240 (1 MB is 1,048,576 bytes)",
    "on_conflict": "replace, skip or fail",
    "on_unsupported": "stop or skip",
    "field_ttls": "refuse or drop",
    "on_cross_slot": "resolve or stop",
    "big_value_mb": "an integer from 1 to 512",
    "resume_mode": "auto or manual",
    "task_id": "1 to 64 letters, digits, dots, underscores or hyphens, the first a letter, digit or underscore",
    "spool_memory_mb": "an integer from 8 to 65536",
    "delivery": "exactly-once or at-least-once",
    "spool_tail_mb": "an integer from 0 to 65536",
    "spool_dir": "the path of a folder",
    "spool_disk_gb": "an integer from 0 to 65536 (0: no spool on disk)",
    "read_from": "primary or replica",
    "snapshots_per_host": "an integer from 0 to 1000 (0: no limit)",
    "address_map": "announced=reachable pairs with commas between, like 10.0.0.5:6379=127.0.0.1:7001,10.0.0.6=node6",
    "source_sentinel_user": "a user name",
    "target_sentinel_user": "a user name",
    "progress": "auto, plain, json or none",
    "log_level": "debug, info, warning or error",
    "log_format": "text or json",
    "metrics_listen": "host:port",
    **SELECTION_ALLOWED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """Everything `sync` needs: the task, and how to talk to the user."""

    task: TaskSettings
    progress: ProgressMode
    log_level: LogLevel
    log_format: LogFormat
    metrics_listen: tuple[str, int] | None = None  # host and port
    warnings: tuple[str, ...] = ()  # to be logged once logging is set up
    source_file: Path | None = None  # a dump or an append-only file in place of a server
    aof_truncated: AofTail = AofTail.LOAD
    reader: ReaderStats | None = None  # counts what is read where the source serves no replicas


def read_options(flags: Mapping[str, Any], environment: Mapping[str, str]) -> SyncOptions:
    """Merge and check. `flags`: those given, by field name, and `config`.

    `environment` must be what os.environ holds: pydantic-settings reads the values there.

    Raises:
        ConfigError: names the flag, variable or key at fault, and what it may be or the nearest
            valid name.
    """
    values = read_values(flags, environment)
    source_file = source_file_of(values.source)
    if source_file is not None:
        source, source_warnings = Endpoint(shown=f"file:{source_file}"), list[str]()
    else:
        source, source_warnings = endpoint_of(values, "source")
    target, target_warnings = endpoint_of(values, "target")
    if source.address == target.address:
        raise ConfigError(
            f"source and target are the same server, {source.address}",
            hint="give the source first, then the target, as with cp",
        )
    method = method_for(source_file, values.method, "method" in values.model_fields_set)
    is_dump = source_file is not None and method is Method.FULL
    limit_mb = values.bandwidth_limit_mb
    task_id = values.task_id or derive_task_id(source, target)
    task = TaskSettings(
        task_id=task_id,
        source=source,
        target=target,
        method=method,
        source_reader=values.source_reader if source_file is None else SourceReader.PSYNC,
        scan_changes=values.scan_changes,
        exit_when_synced=values.exit_when_synced,
        bandwidth_limit_bytes_per_second=None if limit_mb is None else limit_mb * MIB,
        on_conflict=values.on_conflict,
        on_unsupported=values.on_unsupported,
        field_ttls=values.field_ttls,
        on_cross_slot=values.on_cross_slot,
        selection=selection_of(values),
        big_value_bytes=values.big_value_mb * MIB,
        resume_mode=ResumeMode.MANUAL if is_dump else values.resume_mode,
        delivery=values.delivery,
        cluster=ClusterSettings(
            read_from=values.read_from,
            snapshots_per_host=values.snapshots_per_host,
        ),
        spool=SpoolSettings(
            memory_bytes=values.spool_memory_mb * MIB,
            tail_bytes=values.spool_tail_mb * MIB,
            disk_bytes=values.spool_disk_gb * GIB,
            directory=task_folder(values.spool_dir or default_spool_dir(environment), task_id),
        ),
    )
    return SyncOptions(
        task=task,
        progress=values.progress,
        log_level=_log_level(values),
        log_format=values.log_format,
        metrics_listen=None
        if values.metrics_listen is None
        else parse_listen(
            values.metrics_listen, option="--metrics-listen", example="127.0.0.1:9121"
        ),
        source_file=source_file,
        aof_truncated=values.aof_truncated,
        warnings=(*source_warnings, *target_warnings, *_without_effect(values)),
    )


def _log_level(values: SyncValues) -> LogLevel:
    if "log_level" not in values.model_fields_set and draws_bars(values.progress):
        return LogLevel.WARNING  # the bars show the rest
    return values.log_level


def _without_effect(values: SyncValues) -> list[str]:
    if values.method is Method.FULL and values.exit_when_synced:
        return ["--exit-when-synced has no effect with --method full, which ends by itself"]
    return []


def read_values(flags: Mapping[str, Any], environment: Mapping[str, str]) -> SyncValues:
    """Flags, variables and file merged, each value checked by itself. Parameters and errors as read_options."""
    _refuse_unknown_variables(environment)
    config = flags.get("config") or environment.get(f"{ENV_PREFIX}CONFIG")
    table: dict[str, Any] = {}
    if config:
        table = read_toml(Path(config))
        _refuse_unknown_keys(table, Path(config))
    given = {name: value for name, value in flags.items() if name != "config" and value is not None}
    return _merge(given, environment, table, str(config))


def _merge(
    given: dict[str, Any], environment: Mapping[str, str], table: dict[str, Any], config: str
) -> SyncValues:
    class Merged(SyncValues):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # From the highest priority to the lowest. No .env file: what is set can be seen.
            del dotenv_settings, file_secret_settings
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=table)

    try:
        return Merged(**given)
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_context=False)[0]["loc"][0])
    # Outside the handler: the ValidationError holds the values and must not become a __context__.
    variable = f"{ENV_PREFIX}{name.upper()}"
    if name in given:
        where, value = _flag(name), given[name]
    elif environment.get(variable):
        where, value = variable, environment[variable]
    else:
        where, value = f"{name} in {config}", table.get(name)
    raise _bad_value(where, name, value)


def _bad_value(where: str, name: str, value: object) -> ConfigError:
    otherwise = "true or false" if name.endswith("_insecure") else "the path of a file"
    allowed = _ALLOWED.get(name, otherwise)
    if name in _NEVER_QUOTED:
        return ConfigError(f"{where} cannot be read", hint=f"it must be {allowed}")
    text = str(value)
    shown = text if len(text) <= QUOTE_LIMIT else f"{text[:QUOTE_LIMIT]}…"
    return ConfigError(f"{where} cannot be {shown!r}", hint=f"it must be {allowed}")


def _flag(name: str) -> str:
    return name.upper() if name in {"source", "target"} else f"--{name.replace('_', '-')}"


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {f"{ENV_PREFIX}{name.upper()}" for name in (*_FIELDS, "config")}
    for name in sorted(environment):
        if name.startswith(_OTHER_COMMANDS):
            continue
        if not name.upper().startswith(ENV_PREFIX) or _KUBERNETES_SERVICE.fullmatch(name):
            continue
        if name not in known and name not in BUILD_VARIABLES:
            raise ConfigError(
                f"unknown environment variable {name}",
                hint=f"did you mean {_nearest(name.upper(), known)}?",
            )


def _refuse_unknown_keys(table: Mapping[str, Any], path: Path) -> None:
    for name in table:
        if name in _ENVIRONMENT_ONLY:
            raise ConfigError(
                f"{name} does not belong in the settings file {path}",
                hint=f"use {name}_file, or the variable {ENV_PREFIX}{name.upper()}",
            )
        if name not in _TOML_KEYS:
            raise ConfigError(
                f"unknown key {name} in the settings file {path}",
                hint=f"did you mean {_nearest(name, _TOML_KEYS)}?",
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    # cutoff 0: the nearest is always named, however far away it is.
    nearest: list[str] = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return nearest[0]


def wants_json_logs(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> bool:
    """Tell how to print an error in the options themselves, before they could be read."""
    asked = flags.get("log_format") or environment.get(f"{ENV_PREFIX}LOG_FORMAT")
    return asked == LogFormat.JSON
