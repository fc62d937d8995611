"""Source and target of `task configure`: from what the user writes to what the API takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.control.option_files import read_password
from engine.endpoint import Role, parse_endpoint
from engine.errors import ConfigError


def side_body(
    role: Role, text: str, password_file: str | None, environment: Mapping[str, str]
) -> dict[str, Any]:
    """The API's body of one side. The password comes from its file, its variable or the URL, in this order.

    Raises:
        ConfigError: a file or URL that cannot be used, or something that only a registered instance can have.
    """
    password: str | None = environment.get(f"REDIS_FERRY_{role.upper()}_PASSWORD") or None
    if password_file is not None:
        password, _ = read_password(Path(password_file), role)
    if text.startswith("id:"):
        return {"id": text.removeprefix("id:"), "password": password}
    if "://" not in text:
        return {"addrs": text, "password": password}
    endpoint = parse_endpoint(text, role=role)
    if endpoint.username is not None or endpoint.tls is not None or endpoint.unix_path is not None:
        raise ConfigError(
            f"the {role} has a user name, TLS or a socket, which the API's addresses cannot have",
            hint="register it in the service's --instances file and name it here as id:ID",
        )
    return {"addrs": endpoint.address, "password": password or endpoint.password}
