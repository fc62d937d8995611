"""Addresses to listen on, as options give them."""

from __future__ import annotations

from engine.errors import ConfigError


def parse_listen(text: str, *, option: str, example: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[ipv6]:port`; port 0 takes a free one.

    Raises:
        ConfigError: names the option.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(
            f"{option} cannot be {text!r}",
            hint=f"write host:port, like {example} or [::1]:{example.rpartition(':')[2]}",
        )
    return host, int(port)
