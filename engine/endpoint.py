"""The address of a server and how to get in. Never prints a password."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import unquote

from engine.errors import ConfigError

Role = Literal["source", "target"]

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
# Of a connect timeout. A port without TLS waits for the rest of the handshake and never says so.
TLS_TIMEOUT_SHARE = 0.5
HIGHEST_PORT = 65535
# What a server that has no password answers to one (acl.c, authCommand): before 6.0, and since.
NO_PASSWORD_SET = ("Client sent AUTH, but no password is set", "without any password configured")
# sockaddr_un.sun_path holds 108 bytes on Linux, 104 on macOS, the last one a NUL.
UNIX_PATH_LIMIT_BYTES = 103


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Certificates for a `rediss://` endpoint; the system's trust store when `ca_file` is None."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelGroup:
    """Sentinels that watch a primary. username, password: theirs, not the servers'."""

    addresses: tuple[tuple[str, int], ...]
    primary_name: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server: TCP (`host`, `port`), TCP with TLS (`tls` set) or a unix socket (`unix_path`).

    more: further nodes of the same cluster, to be asked when the first one does not answer. sentinel: the server is
    whoever these call the primary; host and port are then the first Sentinel's. address_map: pairs of an address
    that nodes announce (`host:port` or `host`) and the one to be used instead.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    unix_path: str | None = None
    shown: str | None = None  # what stands for the address: a file that is served on a socket
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsSettings | None = None
    more: tuple[tuple[str, int], ...] = ()
    sentinel: SentinelGroup | None = None
    address_map: tuple[tuple[str, str], ...] = ()

    @property
    def address(self) -> str:
        """`host:port` or the socket's path: for logs, errors and the task's default name."""
        if self.shown is not None:
            return self.shown
        if self.unix_path is not None:
            return self.unix_path
        if self.sentinel is not None:
            return f"{self.sentinel.primary_name}@{self.host}:{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# What users of other tools will try. No password can be in these texts.
_UNSUPPORTED_SCHEMES = {
    "file": "RDB files are not supported in this version",
    "rdb": "RDB files are not supported in this version",
}
_SAME_AS = {
    "sentinel": "redis+sentinel",
    "redis-sentinel": "redis+sentinel",
    "rediss-sentinel": "rediss+sentinel",
    "redis-cluster": "redis",
    "rediss-cluster": "rediss",
    "redis+cluster": "redis",
    "rediss+cluster": "rediss",
    "cluster": "redis",
    "valkey": "redis",
    "valkeys": "rediss",
    "keydb": "redis",
    "tcp": "redis",
    "redis+tls": "rediss",
    "redis+ssl": "rediss",
    "tls": "rediss",
    "ssl": "rediss",
    "redis+socket": "unix",
    "redis+unix": "unix",
}

_SENTINEL_SCHEMES = frozenset({"redis+sentinel", "rediss+sentinel"})
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[^\s/?#@:\[\]\\%\"'<>|`{}]+")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")


def parse_endpoint(url: str, *, role: Role, tls: TlsSettings | None = None) -> Endpoint:
    """Read a server's URL.

    `redis://[user[:password]@]host[:port][,host[:port]…]`, `rediss://` (the same with TLS),
    `unix://[user[:password]@]path`, `redis+sentinel://[user[:password]@]host[:port][,…]/name`, `rediss+sentinel://`.
    User and password are percent-encoded. `tls` holds the certificates asked for by other options;
    None means that none of them was given.

    Raises:
        ConfigError: names the role, what is wrong and a right example; never user or password.
    """
    text = url.strip()
    if not text:
        _refuse(role, "is empty")
    if _UNPRINTABLE.search(text):
        _refuse(role, "holds a space or a control character", hint="write a space as %20")
    scheme, separator, rest = text.partition("://")
    if not separator:
        _refuse_without_scheme(role, text)
    scheme = scheme.lower()
    if scheme not in {"redis", "rediss", "unix", *_SENTINEL_SCHEMES}:
        _refuse_scheme(role, scheme)
    if tls is not None and not scheme.startswith("rediss"):
        _refuse(
            role,
            f"is {scheme}://, so the --{role}-tls-* options have no meaning",
            hint=f"use rediss:// for TLS, or leave the --{role}-tls-* options out",
        )

    if scheme == "unix":
        return _parse_unix(rest, role)
    tls = (tls or TlsSettings()) if scheme.startswith("rediss") else None
    if scheme in _SENTINEL_SCHEMES:
        return _parse_sentinel(rest, role, tls)
    return _parse_tcp(rest, role, scheme, tls)


def _parse_sentinel(rest: str, role: Role, tls: TlsSettings | None) -> Endpoint:
    authority, mark, tail = _split_authority(rest, role)
    credentials, at, servers = authority.rpartition("@")
    username, password = _parse_credentials(credentials, role) if at else (None, None)
    addresses = _parse_servers(servers, role, DEFAULT_SENTINEL_PORT)
    name = _decode(tail, role, "primary's name") if mark == "/" else ""
    if not name or "/" in name or "?" in name:
        _refuse(
            role,
            "does not end with the name that the Sentinels know the primary by",
            hint=f"write redis+sentinel://{servers}/mymaster",
        )
    return Endpoint(
        host=addresses[0][0],
        port=addresses[0][1],
        username=username,
        password=password,
        tls=tls,
        sentinel=SentinelGroup(addresses=tuple(addresses), primary_name=name),
    )


def _parse_servers(text: str, role: Role, default_port: int) -> list[tuple[str, int]]:
    return [_parse_server(it, role, default_port) for it in text.split(",")]


def _parse_tcp(rest: str, role: Role, scheme: str, tls: TlsSettings | None) -> Endpoint:
    authority, mark, tail = _split_authority(rest, role)
    credentials, at, server = authority.rpartition("@")
    username, password = _parse_credentials(credentials, role) if at else (None, None)
    (host, port), *more = _parse_servers(server, role, DEFAULT_PORT)
    if mark == "/" and tail:
        _refuse_path(role, tail, f"{scheme}://{server}")
    if mark in {"?", "#"}:
        _refuse(
            role,
            "has a query string" if mark == "?" else "has a fragment (#…)",
            hint="leave out everything after host:port; settings are options, see --help",
        )
    return Endpoint(
        host=host, port=port, username=username, password=password, tls=tls, more=tuple(more)
    )


def _split_authority(rest: str, role: Role) -> tuple[str, str, str]:
    """Cut at the first `/`, `?` or `#`: (authority, that character or "", what follows it)."""
    found = re.search(r"[/?#]", rest)
    if found is None:
        return rest, "", ""
    authority, mark, tail = rest[: found.start()], found.group(), rest[found.end() :]
    if "@" in tail and "@" not in authority:
        # `redis://user:pa/ss@host`: what stands before the cut is half a password, so show nothing.
        _refuse(
            role,
            "has a /, ? or # in its user name or password",
            hint="percent-encode them: / is %2F, ? is %3F, # is %23, @ is %40",
        )
    return authority, mark, tail


def _parse_credentials(text: str, role: Role) -> tuple[str | None, str | None]:
    user, colon, word = text.partition(":")
    username = _decode(user, role, "user name") or None
    password = _decode(word, role, "password") if colon else None
    # An empty password has a meaning only for a user who needs none; `redis://:@host` is no login.
    return username, password if password or username else None


def _decode(text: str, role: Role, what: str) -> str:
    if _BAD_PERCENT.search(text):
        _refuse(
            role,
            f"has a % in its {what} that is not followed by two hex digits",
            hint="percent-encode it: % is %25",
        )
    try:
        text.encode()  # refuses what came in as bytes of another encoding
        return unquote(text, errors="strict")
    except UnicodeError:
        _refuse(role, f"has a {what} that is not UTF-8 once decoded")


def _parse_server(server: str, role: Role, default_port: int) -> tuple[str, int]:
    if not server:
        _refuse(role, "names no host")
    if server.startswith("["):
        inside, bracket, after = server[1:].partition("]")
        host = inside.replace("%25", "%")  # RFC 6874: a zone's % is itself encoded
        if not bracket or not _IPV6.fullmatch(host) or (after and not after.startswith(":")):
            _refuse(role, "has a broken IPv6 address", hint="write it like redis://[::1]:6379")
        port_text = after[1:]
    elif server.count(":") > 1:
        _refuse(
            role,
            "has more than one : after the host",
            hint="put an IPv6 address in brackets, like redis://[::1]:6379",
        )
    else:
        host, _, port_text = server.partition(":")
        if not host:
            _refuse(role, "names no host")
        if not _HOST.fullmatch(host):
            _refuse(role, "has a character in its host name that no host name can have")
    return host.lower(), _parse_port(port_text, role, default_port)


def _parse_port(text: str, role: Role, default_port: int) -> int:
    if not text:
        return default_port
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= HIGHEST_PORT:
        # The text is not shown: without an @ it may be a password that lost its host.
        _refuse(role, "has a port that is not a number from 1 to 65535")
    return int(text)


def _parse_unix(rest: str, role: Role) -> Endpoint:
    credentials, at, path = rest.rpartition("@")
    username, password = _parse_credentials(credentials, role) if at else (None, None)
    if "?" in path or "#" in path:
        _refuse(role, "has a query string or a fragment", hint="end it with the socket's path")
    path = _decode(path, role, "path")
    if not path or path.endswith("/"):
        _refuse(role, "names no socket file", hint="write it like unix:///run/redis/redis.sock")
    # Absolute, so that the task's default name does not depend on the working directory.
    path = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT_BYTES:
        _refuse(
            role,
            f"has a socket path of more than {UNIX_PATH_LIMIT_BYTES} bytes, the system's limit",
            hint="use a shorter path, for instance a symbolic link in /tmp",
        )
    return Endpoint(unix_path=path, username=username, password=password)


def _refuse_path(role: Role, tail: str, without: str) -> NoReturn:
    if tail.isascii() and tail.isdigit():
        raise ConfigError(
            f"the {role} URL names database /{tail}, but all databases are migrated",
            hint=f"leave /{tail} out: {without}",
        )
    _refuse(role, "has a path after the host", hint=f"leave it out: {without}")


def _refuse_without_scheme(role: Role, text: str) -> NoReturn:
    if text.startswith(("/", "./", "../")) and "@" not in text:
        raise ConfigError(f"the {role} URL has no scheme", hint=f"for a socket write unix://{text}")
    # Everything up to the last @ may be a password.
    before, at, server = text.rpartition("@")
    scheme, _, after = server.partition(":")
    # `redis:6379` is a host called redis, as in many compose files.
    if (
        not before
        and after
        and not after.isdigit()
        and scheme.lower() in {"redis", "rediss", "unix"}
    ):
        _refuse(role, f"has no // after {scheme}:", hint=f"write {scheme}://{after.lstrip('/')}")
    server = server if ":" in server else f"{server}:{DEFAULT_PORT}"
    raise ConfigError(
        f"the {role} URL has no scheme",
        hint=f"write redis://{'user:password@' if at else ''}{server} (rediss:// for TLS)",
    )


def _refuse_scheme(role: Role, scheme: str) -> NoReturn:
    # A "scheme" with an @ or a : in it is the start of something else, maybe of a password.
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        _refuse(role, "has no scheme that can be read")
    if reason := _UNSUPPORTED_SCHEMES.get(scheme):
        raise ConfigError(
            f"the {role} URL has the scheme {scheme}://: {reason}",
            hint=f"name one server: {_example(role)}",
        )
    if same := _SAME_AS.get(scheme):
        raise ConfigError(
            f"the {role} URL has the scheme {scheme}://, which is not known here",
            hint=f"write the same URL with {same}://",
        )
    _refuse(
        role, f"has the scheme {scheme}://, not redis://, rediss://, redis+sentinel:// or unix://"
    )


def _example(role: Role) -> str:
    return {
        "source": "redis://user:password@source.example:6379",
        "target": "redis://user:password@target.example:6379",
    }[role]


def _refuse(role: Role, what: str, *, hint: str = "") -> NoReturn:
    raise ConfigError(
        f"the {role} URL {what}",
        hint=f"{hint}; for example {_example(role)}" if hint else f"write it like {_example(role)}",
    )
