"""The `addrs` of an instance: host:port, several of them with commas. Pure."""

from __future__ import annotations

import re

from engine.endpoint import HIGHEST_PORT
from engine.service.refusals import BadParameter

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")
ADDRS_LIMIT = 4096  # characters; a cluster of 100 masters needs some 2,000
MANY_NODES = "several nodes are given, and they are no cluster: give one standalone server"


def parse_addrs(text: str, *, name: str) -> list[tuple[str, int]]:
    """Read `host:port[,host:port…]`; IPv6 as `[::1]:6379`; spaces around are ignored.

    Raises:
        BadParameter: with `name`, the field.
    """
    if len(text) > ADDRS_LIMIT:
        raise BadParameter(name)
    found = [_parse_one(part.strip(), name) for part in text.split(",")]
    return list(dict.fromkeys(found))


def show_addr(host: str, port: int) -> str:
    """`host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_one(text: str, name: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = ":" in host and _IPV6.fullmatch(host) is not None
    else:
        is_host = _HOST.fullmatch(host) is not None
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= HIGHEST_PORT
    if not (colon and is_host and is_port):
        raise BadParameter(name)
    return host, int(port)
