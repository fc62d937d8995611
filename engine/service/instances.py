"""The registered instances: servers that a client may name by `id` instead of address and password."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.service.addresses import parse_addrs
from engine.service.record import TlsFiles
from engine.service.refusals import BadParameter, InstanceUnknown

INSTANCE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEYS = frozenset(
    {
        "id", "name", "addrs", "username", "password", "password_file", "project_id",
        "tls", "tls_ca", "tls_cert", "tls_key", "tls_insecure",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One entry. project_id: the only project that sees it; None: all do. tls: None for a plain connection."""

    id: str
    name: str
    addrs: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    project_id: str | None = None
    tls: TlsFiles | None = None


class Instances:
    """The registry of one service; fixed while it runs."""

    def __init__(self, instances: list[Instance]) -> None:
        self._by_id = {it.id: it for it in instances}

    def get(self, project_id: str, instance_id: str) -> Instance:
        """One instance.

        Raises:
            InstanceUnknown: there is none for this project.
        """
        found = self._by_id.get(instance_id)
        if found is None or found.project_id not in (None, project_id):
            raise InstanceUnknown
        return found

    def of_project(self, project_id: str) -> list[Instance]:
        """All that a project sees, in the order of the file."""
        return [it for it in self._by_id.values() if it.project_id in (None, project_id)]


def read_instances(path: Path | None) -> Instances:
    """Read the registry's TOML file, `[[instances]]` tables.

    Raises:
        ConfigError: names the entry, what is wrong and what it may be; never a password.
    """
    if path is None:
        return Instances([])
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("instances", [])
    except OSError as error:
        raise ConfigError(f"cannot read the instances file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the instances file {path} is not valid TOML: {error}") from None
    if not isinstance(tables, list) or not all(isinstance(it, dict) for it in tables):
        raise ConfigError(
            f"the instances file {path} has no list of instances",
            hint="begin each with a line [[instances]]",
        )
    found = [_read_one(table, number, path) for number, table in enumerate(tables, start=1)]
    ids = [it.id for it in found]
    if doubled := {it for it in ids if ids.count(it) > 1}:
        raise ConfigError(f"the instances file {path} has the id {doubled.pop()} twice")
    return Instances(found)


def _read_one(table: dict[str, Any], number: int, path: Path) -> Instance:
    where = f"instance {number} of {path}"
    if unknown := set(table) - _KEYS:
        raise ConfigError(
            f"{where} has the unknown key {min(unknown)}",
            hint=f"the keys are {', '.join(sorted(_KEYS))}",
        )
    for name, value in table.items():
        if not isinstance(value, bool if name in {"tls", "tls_insecure"} else str):
            raise ConfigError(f"{name} of {where} has the wrong type")
    instance_id = table.get("id", "")
    if not INSTANCE_ID.fullmatch(instance_id):
        raise ConfigError(f"{where} needs an id", hint="1 to 64 letters, digits, - or _")
    try:
        parse_addrs(table.get("addrs", ""), name="addrs")
    except BadParameter:
        raise ConfigError(
            f"{where} needs addrs", hint='like addrs = "redis.example:6379"'
        ) from None
    password = table.get("password")
    if "password_file" in table:
        try:
            password = Path(table["password_file"]).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the password file of {where}: {error}") from None
    return Instance(
        id=instance_id,
        name=table.get("name", instance_id),
        addrs=table["addrs"],
        username=table.get("username"),
        password=password,
        project_id=table.get("project_id"),
        tls=_tls_of(table, where),
    )


def _tls_of(table: dict[str, Any], where: str) -> TlsFiles | None:
    if not table.get("tls", False):
        if any(name.startswith("tls_") for name in table):
            raise ConfigError(f"{where} has TLS files but no TLS", hint="add tls = true")
        return None
    return TlsFiles(
        ca_file=table.get("tls_ca"),
        cert_file=table.get("tls_cert"),
        key_file=table.get("tls_key"),
        verify=not table.get("tls_insecure", False),
    )
