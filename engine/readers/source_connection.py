"""A pipelined connection to a server that is read with ordinary commands."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import hiredis

from engine.connect import connect_hint, open_connection
from engine.control_client import raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import (
    EngineError,
    SourceAuthError,
    SourceLinkLost,
    SourceNotReady,
    SourceRefused,
    SourceUnreachable,
)

READ_BYTES = 256 * 1024
SILENCE_SECONDS = 60.0  # a big value takes the server its time
_NOT_READY = ("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS")
_AUTH = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR operation not permitted", "ERR invalid password")

Command = tuple[Any, ...]


class SourceConnection:
    """`open`, then `ask`; or `send` and later `receive`, in order. Replies are bytes, int, list, None, or a ReplyError."""

    def __init__(
        self,
        endpoint: Endpoint,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        silence_seconds: float,
    ) -> None:
        self.endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._parser = hiredis.Reader()
        self._silence_seconds = silence_seconds

    @classmethod
    async def open(
        cls,
        endpoint: Endpoint,
        *,
        timeout_seconds: float,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> SourceConnection:
        """Connect and log in. silence_seconds: a reply that takes longer means a lost connection.

        Raises:
            SourceUnreachable, SourceAuthError, SourceNotReady.
        """
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
        try:
            transport, protocol = await open_connection(
                endpoint,
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
                timeout_seconds=timeout_seconds,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            raise_if_cancelled()
            why = str(error) or f"no answer within {timeout_seconds:g} s"
            raise SourceUnreachable(
                f"cannot connect to the source {endpoint.address}: {why}",
                hint=connect_hint(endpoint, "source", why or "timeout"),
            ) from error
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        made = cls(endpoint, reader, writer, silence_seconds)
        try:
            if endpoint.password is not None:
                login = (
                    ("AUTH", endpoint.password)
                    if endpoint.username is None
                    else ("AUTH", endpoint.username, endpoint.password)
                )
                (answer,) = await made.ask(login)
                made.check("AUTH", answer)
        except BaseException:
            made.close()
            raise
        return made

    def send(self, data: bytes) -> None:
        """Send commands, encoded already."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until most of what was sent has left."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise self.lost(error) from error

    async def receive(self, count: int) -> list[Any]:
        """So many replies.

        Raises:
            SourceLinkLost: the connection broke, or said nothing for too long.
        """
        found: list[Any] = []
        gets = self._parser.gets
        while len(found) < count:
            reply = gets()
            if reply is False:
                self._parser.feed(await self._read())
            else:
                found.append(reply)
        return found

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands and read their replies."""
        self.send(b"".join(hiredis.pack_command(command) for command in commands))
        return await self.receive(len(commands))

    async def next_message(self) -> Any:
        """One reply, however long it takes; None before that when what was read has no whole one."""
        reply = self._parser.gets()
        if reply is not False:
            return reply
        self._parser.feed(await self._read())
        return None

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence_seconds):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError as error:
            raise_if_cancelled()
            raise SourceLinkLost(
                f"the source {self.endpoint.address} said nothing for {self._silence_seconds:g} s"
            ) from error
        except OSError as error:
            raise self.lost(error) from error
        if not data:
            raise self.lost("the source closed it")
        return data

    def lost(self, why: object) -> SourceLinkLost:
        """The error of a connection that broke."""
        return SourceLinkLost(
            f"the connection to the source {self.endpoint.address} was lost: {why}"
        )

    def check(self, command: str, reply: Any) -> Any:
        """The reply, unless it is an error.

        Raises:
            SourceAuthError, SourceNotReady, SourceRefused.
        """
        if isinstance(reply, hiredis.ReplyError):
            raise self.refusal(command, str(reply))
        return reply

    def refusal(self, command: str, text: str) -> EngineError:
        """What an error reply means."""
        source = f"the source {self.endpoint.address}"
        if text.startswith(_NOT_READY):
            return SourceNotReady(f"{source} is not ready: {text}")
        if text.startswith("NOPERM") or "no permissions" in text:
            return SourceAuthError(
                f"{source} does not permit {command}: {text}",
                hint="grant what OPERATIONS.md lists for the scan reader",
            )
        if text.startswith(_AUTH):
            return SourceAuthError(
                f"{source} refused the credentials: {text}",
                hint="check user and password; try them with redis-cli",
            )
        return SourceRefused(
            f"{source} refused {command}: {text}", hint="the scan reader cannot do without it"
        )

    def close(self) -> None:
        """Close it."""
        self._writer.transport.abort()
