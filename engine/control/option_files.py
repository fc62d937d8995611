"""The files that options name: the TOML settings file, password files, certificates."""

from __future__ import annotations

import ssl
import stat
import tomllib
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from engine.endpoint import Role, TlsSettings
from engine.errors import ConfigError, SourceUnreachable
from engine.readers.file_kind import FileKind, kind_of
from engine.settings import Method

# Longer than any password; stops a wrong path (a log, /dev/zero) from being read whole.
PASSWORD_LIMIT_BYTES = 64 * 1024


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file; its keys with `_` for `-`, so that option names can be copied into it.

    Raises:
        ConfigError: unreadable, not TOML (with line and column), a section, or one key in both spellings.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the settings file {path}: {error.strerror}",
            hint="check the path given with --config or REDIS_FERRY_CONFIG",
        ) from None
    try:
        table = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # A decode error quotes a single character at most, never a whole line.
        raise ConfigError(
            f"the settings file {path} is not valid TOML: {error}",
            hint='write one setting a line, like method = "full"; texts need quotes',
        ) from None
    settings: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if isinstance(value, dict) or (isinstance(value, list) and dict in map(type, value)):
            raise ConfigError(
                f"the settings file {path} has a section or a table, {key}",
                hint="settings stand one a line, without sections: the name of an option, = and its value, "
                'like source_tls_ca = "ca.pem"',
            )
        if name in settings:
            raise ConfigError(
                f"the settings file {path} gives {name} twice, spelled with - and with _",
                hint="keep one of the two",
            )
        settings[name] = value
    return settings


def read_password(path: Path, role: Role) -> tuple[str, str | None]:
    """Read a password file: (password, warning or None). One newline at its end is not part of it.

    Raises:
        ConfigError: unreadable, empty, more than one line, too long or not UTF-8.
    """
    option = f"--{role}-password-file"
    try:
        with path.open("rb") as file:
            raw = file.read(PASSWORD_LIMIT_BYTES + 1)
            mode = stat.S_IMODE(path.stat().st_mode) if stat.S_ISREG(path.stat().st_mode) else 0
    except OSError as error:
        raise ConfigError(
            f"cannot read the {role} password file {path}: {error.strerror}",
            hint=f"check the path given with {option} and that this user may read it",
        ) from None
    if len(raw) > PASSWORD_LIMIT_BYTES:
        raise ConfigError(
            f"the {role} password file {path} is longer than {PASSWORD_LIMIT_BYTES} bytes",
            hint=f"{option} names a file that holds the password alone",
        )
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in raw:
        raise ConfigError(
            f"the {role} password file {path} has more than one line",
            hint=f"{option} names a file that holds the password alone; only a newline at its end is ignored",
        )
    if not raw:
        raise ConfigError(
            f"the {role} password file {path} is empty",
            hint=f"write the password into it, or leave {option} out if the {role} has none",
        )
    try:
        password = raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"the {role} password file {path} is not UTF-8 text",
            hint=f"{option} names a file that holds the password alone",
        ) from None
    warning = None
    if mode & stat.S_IROTH:
        warning = f"every user of this machine can read {path}; protect it with: chmod 600 {path}"
    return password, warning


def check_certificates(tls: TlsSettings, role: Role) -> None:
    """Load the certificates once, so that a wrong file is a usage error and not a lost connection.

    Raises:
        ConfigError: a file that cannot be read or used, or options that contradict each other.
    """
    if tls.key_file is not None and tls.cert_file is None:
        raise ConfigError(
            f"--{role}-tls-key is given without --{role}-tls-cert",
            hint=f"give the certificate of that key with --{role}-tls-cert",
        )
    if tls.ca_file is not None and not tls.verify:
        raise ConfigError(
            f"--{role}-tls-ca and --{role}-tls-insecure contradict each other",
            hint="keep the CA file to verify the server, or the other one to skip verification",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file is not None:
        _require_readable(tls.ca_file, role, "tls-ca")
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"the {role} CA file {tls.ca_file} cannot be used",
                detail=_reason(error),
                hint=f"--{role}-tls-ca takes certificates in PEM form",
            ) from None
    if tls.cert_file is not None:
        _require_readable(tls.cert_file, role, "tls-cert")
        if tls.key_file is not None:
            _require_readable(tls.key_file, role, "tls-key")
        try:
            # The empty answer keeps OpenSSL from asking for a passphrase on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                f"the {role} certificate {tls.cert_file} and its key cannot be used",
                detail=_reason(error),
                hint=f"--{role}-tls-cert and --{role}-tls-key take a matching pair in PEM form, "
                "the key without a passphrase",
            ) from None


def _require_readable(path: Path, role: Role, option: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}",
            hint=f"check the path given with --{role}-{option}",
        ) from None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def source_file_of(source: SecretStr | None) -> Path | None:
    """The path in `file:dump.rdb` or `file:///backups/dump.rdb`; None for any other source."""
    text = "" if source is None else source.get_secret_value()
    if not text.startswith("file:"):
        return None
    path = text.removeprefix("file:")
    return Path(path.removeprefix("//") if path.startswith("///") else path).absolute()


def method_for(source_file: Path | None, method: Method, is_given: bool) -> Method:
    """What a file has decides: a dump has no commands to follow, an append-only file is nothing without them.

    Raises:
        ConfigError: the other one was asked for.
    """
    if source_file is None:
        return method
    try:
        is_aof = kind_of(source_file) is not FileKind.RDB
    except SourceUnreachable:
        is_aof = False  # said when it is opened
    if is_given and is_aof is not (method is Method.INCREMENTAL):
        raise ConfigError(
            "an append-only file cannot be migrated without its commands"
            if is_aof
            else "a dump file has no writes to follow",
            hint=f"leave --method out, or give --method {'incremental' if is_aof else 'full'}",
        )
    return Method.INCREMENTAL if is_aof else Method.FULL
