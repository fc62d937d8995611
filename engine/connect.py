"""Opening a stream connection to an endpoint: TCP, TLS or unix socket. The one place that does."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from engine.endpoint import TLS_TIMEOUT_SHARE, Endpoint, Role, TlsSettings
from engine.errors import ConfigError

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)
_RUNS = "that the server runs"


def connect_hint(endpoint: Endpoint, role: Role, why: str) -> str:
    """The remedy for a connection that could not be made. why: what the system or the library said."""
    if "CERTIFICATE_VERIFY_FAILED" in why:
        if "not valid for" in why:
            return f"use a host name that is in its certificate (--{role}-tls-insecure skips the check)"
        return f"give the authority of its certificate with --{role}-tls-ca (--{role}-tls-insecure skips the check)"
    if endpoint.tls is not None and is_silence(why):
        return f"does this port speak TLS? One without TLS wants redis://; else check address, firewall, and {_RUNS}"
    hint = f"check address, port, firewall, and {_RUNS}"
    if endpoint.tls is not None:
        hint += f"; a port without TLS wants redis://, one that asks for client certificates --{role}-tls-cert"
    elif endpoint.unix_path is None:
        hint += "; a port with TLS wants rediss://"
    return hint


def is_silence(why: str) -> bool:
    """Whether `why` tells of an answer that did not come (asyncio, uvloop and redis-py have their own words)."""
    return any(words in why.lower() for words in ("timeout", "timed out", "taking longer"))


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """A client context for `tls`; certificates and host names are verified unless told not to.

    Raises:
        ConfigError: a file that cannot be read or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(
            cafile=None if tls.ca_file is None else str(tls.ca_file)
        )
        if tls.cert_file is not None:
            context.load_cert_chain(
                str(tls.cert_file), None if tls.key_file is None else str(tls.key_file)
            )
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the TLS files cannot be used: {error}",
            detail=f"ca {tls.ca_file}, certificate {tls.cert_file}, key {tls.key_file}",
            hint="they must be readable PEM files, the key belonging to the certificate",
        ) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def open_connection(
    endpoint: Endpoint, factory: Callable[[], ProtocolT], *, timeout_seconds: float
) -> tuple[asyncio.Transport, ProtocolT]:
    """Connect and hand the connection to `factory()`.

    Raises:
        OSError, ssl.SSLError, TimeoutError: as the system said it; callers name the side.
    """
    loop = asyncio.get_running_loop()
    context = None if endpoint.tls is None else tls_context(endpoint.tls)
    async with asyncio.timeout(timeout_seconds):
        if endpoint.unix_path is not None:
            transport, protocol = await loop.create_unix_connection(factory, endpoint.unix_path)
        else:
            transport, protocol = await loop.create_connection(
                factory,
                endpoint.host,
                endpoint.port,
                ssl=context,
                server_hostname=endpoint.host if context is not None else None,
                ssl_handshake_timeout=None
                if context is None
                else timeout_seconds * TLS_TIMEOUT_SHARE,
            )
    raw = transport.get_extra_info("socket")
    if raw is not None and endpoint.unix_path is None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return transport, protocol
