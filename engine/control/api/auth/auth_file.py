"""The authentication file: static tokens, access keys, and the way to Keystone. TOML, for this user only."""

from __future__ import annotations

import stat
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.service.private_file import can_others_read

SECRET_LENGTH = 16  # characters; shorter ones can be guessed
_ROLES = ("admin", "reader")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticToken:
    """A token of the file. expires_at: aware; None: never."""

    token: str = field(repr=False)
    project_id: str
    name: str
    may_write: bool
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key of the file."""

    access: str
    secret: str = field(repr=False)
    project_id: str
    may_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoneSettings:
    """url: ends in /v3. username: of the service's own user; None: a token is checked with itself.

    roles: one of them is needed for everything; read_roles: one of them is enough for reading.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    project: str = "service"
    user_domain: str = "Default"
    project_domain: str = "Default"
    roles: frozenset[str] = frozenset({"admin", "member"})
    read_roles: frozenset[str] = frozenset({"reader"})
    ca_file: str | None = None
    cache_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Everything in the file."""

    tokens: tuple[StaticToken, ...] = ()
    keys: tuple[AccessKey, ...] = ()
    keystone: KeystoneSettings | None = None


def read_auth_file(path: Path) -> AuthSettings:
    """Read it.

    Raises:
        ConfigError: unreadable, readable by others, or wrong; names the entry and never a secret.
    """
    try:
        status = path.stat()
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the authentication file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the authentication file {path} is not valid TOML: {error}") from None
    if can_others_read(status):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"the authentication file {path} can be read by others (mode {mode:04o})",
            hint=f"protect it: chmod 600 {path}",
        )
    if unknown := set(table) - {"tokens", "keys", "keystone"}:
        raise ConfigError(
            f"the authentication file {path} has the unknown key {min(unknown)}",
            hint="it may have [[tokens]], [[keys]] and [keystone]",
        )
    tokens = [_token(it) for it in _entries(table, "tokens", path)]
    keys = [_key(it) for it in _entries(table, "keys", path)]
    keystone = None
    if "keystone" in table:
        keystone = _keystone(_Entry(table["keystone"], f"[keystone] of {path}"))
    settings = AuthSettings(tokens=tuple(tokens), keys=tuple(keys), keystone=keystone)
    if not (tokens or keys or keystone):
        raise ConfigError(f"the authentication file {path} lets nobody in")
    return settings


class _Entry:
    """A table whose values are taken out one by one; what is left is a mistake."""

    def __init__(self, table: Any, where: str) -> None:
        if not isinstance(table, dict):
            raise ConfigError(f"{where} is not a table")
        self.where = where
        self._left = dict(table)

    def text(self, name: str, *, shortest: int = 1, default: str | None = None) -> str:
        value = self._left.pop(name, default)
        if not isinstance(value, str) or len(value) < shortest:
            wanted = f"a text of at least {shortest} characters"
            raise ConfigError(f"{self.where} needs {name}", hint=f"{name} is {wanted}")
        return value

    def optional(self, name: str) -> str | None:
        return self.text(name) if name in self._left else None

    def names(self, name: str, default: frozenset[str]) -> frozenset[str]:
        value = self._left.pop(name, sorted(default))
        if not isinstance(value, list) or not all(isinstance(it, str) for it in value):
            raise ConfigError(f"{name} of {self.where} is not a list of texts")
        return frozenset(value)

    def value(self, name: str, kind: type, default: Any) -> Any:
        value = self._left.pop(name, default)
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{name} of {self.where} has the wrong type")
        return value

    def end(self) -> None:
        if self._left:
            raise ConfigError(f"{self.where} has the unknown key {min(self._left)}")


def _entries(table: dict[str, Any], name: str, path: Path) -> list[_Entry]:
    found = table.get(name, [])
    if not isinstance(found, list):
        raise ConfigError(f"{name} of {path} is no list", hint=f"begin each with [[{name}]]")
    return [_Entry(it, f"[[{name}]] number {at} of {path}") for at, it in enumerate(found, 1)]


def _may_write(entry: _Entry) -> bool:
    role = entry.text("role", default="admin")
    if role not in _ROLES:
        raise ConfigError(f"role of {entry.where} cannot be {role!r}", hint="admin or reader")
    return role == "admin"


def _token(entry: _Entry) -> StaticToken:
    expires_at = entry.value("expires_at", datetime, None)
    if expires_at is not None and expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    token = StaticToken(
        token=entry.text("token", shortest=SECRET_LENGTH),
        project_id=entry.text("project_id"),
        name=entry.text("name", default="token"),
        may_write=_may_write(entry),
        expires_at=expires_at,
    )
    entry.end()
    return token


def _key(entry: _Entry) -> AccessKey:
    key = AccessKey(
        access=entry.text("access"),
        secret=entry.text("secret", shortest=SECRET_LENGTH),
        project_id=entry.text("project_id"),
        may_write=_may_write(entry),
    )
    entry.end()
    return key


def _keystone(entry: _Entry) -> KeystoneSettings:
    password = entry.optional("password")
    if (file := entry.optional("password_file")) is not None:
        try:
            password = Path(file).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the password file of {entry.where}: {error}") from None
    defaults = KeystoneSettings(url="")
    settings = KeystoneSettings(
        url=entry.text("url").rstrip("/"),
        username=entry.optional("username"),
        password=password,
        project=entry.text("project", default=defaults.project),
        user_domain=entry.text("user_domain", default=defaults.user_domain),
        project_domain=entry.text("project_domain", default=defaults.project_domain),
        roles=entry.names("roles", defaults.roles),
        read_roles=entry.names("read_roles", defaults.read_roles),
        ca_file=entry.optional("ca_file"),
        cache_seconds=float(entry.value("cache_seconds", int, int(defaults.cache_seconds))),
    )
    entry.end()
    if settings.username is not None and settings.password is None:
        raise ConfigError(f"{entry.where} has a username and no password")
    if not settings.url.startswith(("http://", "https://")):
        raise ConfigError(
            f"url of {entry.where} cannot be used", hint="like https://iam.example/v3"
        )
    return settings
