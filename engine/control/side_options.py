"""One side out of the merged options: its address, its logins, its certificates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from engine.control.address_map import read_address_map
from engine.control.option_files import check_certificates, read_password
from engine.endpoint import Endpoint, Role, TlsSettings, parse_endpoint
from engine.errors import ConfigError

ENV_PREFIX = "REDIS_FERRY_"


def endpoint_of(values: Any, role: Role) -> tuple[Endpoint, list[str]]:
    """One side's address and login, and warnings about them. Raises ConfigError; never shows a password."""
    url: SecretStr | None = getattr(values, role)
    if url is None:
        raise ConfigError(
            f"no {role} is given",
            hint="write redis-ferry sync SOURCE TARGET, like "
            "redis-ferry sync redis://old.example:6379 redis://new.example:6379",
        )
    tls = _tls(values, role)
    endpoint = parse_endpoint(url.get_secret_value(), role=role, tls=tls)
    if tls is not None:
        check_certificates(tls, role)
    warnings = []
    if tls is not None and not tls.verify:
        warnings.append(f"the certificate of the {role} is not verified (--{role}-tls-insecure)")

    file: Path | None = getattr(values, f"{role}_password_file")
    variable: SecretStr | None = getattr(values, f"{role}_password")
    if file is not None:
        password, warning = read_password(file, role)
        endpoint = replace(endpoint, password=password)
        warnings += [warning] if warning else []
    elif variable is not None:
        endpoint = replace(endpoint, password=variable.get_secret_value())
    if endpoint.username is not None and endpoint.password is None:
        # The name is not shown: in redis://secret@host it is the password.
        raise ConfigError(
            f"the {role} URL has a user name but no password",
            hint="write redis://user:password@host (redis://:password@host for the default user), "
            f"or give the password with --{role}-password-file or "
            f"{ENV_PREFIX}{role.upper()}_PASSWORD",
        )
    endpoint = replace(endpoint, address_map=read_address_map(values.address_map))
    return _with_sentinel_login(values, role, endpoint, warnings), warnings


def _with_sentinel_login(
    values: Any, role: Role, endpoint: Endpoint, warnings: list[str]
) -> Endpoint:
    user: str | None = getattr(values, f"{role}_sentinel_user")
    file: Path | None = getattr(values, f"{role}_sentinel_password_file")
    variable: SecretStr | None = getattr(values, f"{role}_sentinel_password")
    if endpoint.sentinel is None:
        if user is not None or file is not None:
            raise ConfigError(
                f"the {role} URL names no Sentinels, so the --{role}-sentinel-* options have no meaning",
                hint="write redis+sentinel://host:26379,host2:26379/name, or leave the options out",
            )
        return endpoint
    password = None if variable is None else variable.get_secret_value()
    if file is not None:
        password, warning = read_password(file, role)
        warnings += [warning] if warning else []
    if user is not None and password is None:
        raise ConfigError(
            f"--{role}-sentinel-user is given without a password",
            hint=f"give it with --{role}-sentinel-password-file",
        )
    return replace(endpoint, sentinel=replace(endpoint.sentinel, username=user, password=password))


def _tls(values: Any, role: Role) -> TlsSettings | None:
    """Gather the TLS options; None if none is given."""
    ca: Path | None = getattr(values, f"{role}_tls_ca")
    cert: Path | None = getattr(values, f"{role}_tls_cert")
    key: Path | None = getattr(values, f"{role}_tls_key")
    insecure: bool = getattr(values, f"{role}_tls_insecure")
    if ca is None and cert is None and key is None and not insecure:
        return None
    return TlsSettings(ca_file=ca, cert_file=cert, key_file=key, verify=not insecure)
