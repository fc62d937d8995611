"""One blocking connection that pipelines: packed commands out, replies of hiredis in.

redis-py's own pipelines cost some 10 us a command; filling and comparing need ten times that speed.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Self, cast

import hiredis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.endpoint import Endpoint, TlsSettings

RECEIVE_BYTES = 256 * 1024
TIMEOUT_SECONDS = 60.0

# bytes, int, None, an error reply, or a list of these: RESP2 as hiredis gives it.
Reply = Any
Argument = bytes | str | int | float
ReplyError = hiredis.ReplyError
# hiredis' own annotation allows one argument only.
pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)


class WireError(Exception):
    """An error reply where none was expected; its text is the server's."""


class Wire:
    """A RESP2 connection to one server. Not for several threads.

    What send() puts on the way must be matched by replies(); nothing is retried.
    """

    def __init__(
        self, endpoint: Endpoint, *, db: int = 0, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """Connect and log in.

        Raises:
            OSError: no connection. WireError: the server refused the login or the database.
        """
        self._socket = _connect(endpoint, timeout_seconds)
        self._reader = hiredis.Reader()
        try:
            if endpoint.password is not None:
                user = () if endpoint.username is None else (endpoint.username,)
                self.ask("AUTH", *user, endpoint.password)
            if db:
                self.ask("SELECT", db)
        except BaseException:
            self.close()
            raise

    def send(self, packed: bytes) -> None:
        """Send packed commands. The server takes them in even while its replies are not read."""
        self._socket.sendall(packed)

    def replies(self, count: int) -> Iterator[Reply]:
        """Yield the next `count` replies, error replies as `ReplyError` objects.

        Raises:
            ConnectionError: the server closed the connection. TimeoutError: it went silent.
        """
        gets, feed, receive = self._reader.gets, self._reader.feed, self._socket.recv
        for _ in range(count):
            reply = gets()
            while reply is False:
                received = receive(RECEIVE_BYTES)
                if not received:
                    raise ConnectionError("the server closed the connection")
                feed(received)
                reply = gets()
            yield reply

    def ask(self, *command: Argument) -> Reply:
        """Send one command and return its reply.

        Raises:
            WireError: it was an error.
        """
        self.send(pack(command))
        (reply,) = self.replies(1)
        if isinstance(reply, ReplyError):
            raise WireError(str(reply))
        return reply

    def facts(self, section: str) -> dict[str, str]:
        """Return a section of INFO as names and texts."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def version(self) -> tuple[int, int]:
        """Return (major, minor) of the product. Valkey began at 7.2: 7.0 says the same for both."""
        facts = self.facts("server")
        major, minor = facts.get("valkey_version", facts["redis_version"]).split(".")[:2]
        return int(major), int(minor)

    def close(self) -> None:
        """Close the connection, whatever is on the way."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(endpoint: Endpoint, timeout_seconds: float) -> socket.socket:
    if endpoint.unix_path is not None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_seconds)
        try:
            connection.connect(endpoint.unix_path)
        except OSError:
            connection.close()
            raise
        return connection
    connection = socket.create_connection((endpoint.host, endpoint.port), timeout_seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if endpoint.tls is None:
        return connection
    return _tls_context(endpoint.tls).wrap_socket(connection, server_hostname=endpoint.host)


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
