"""A replication source without its binary: it plays a recorded stream of tests/corpus/streams.

It answers the handshake as servers of the recording's generation do, sends the recorded bytes in pieces of
random sizes, then stays up and listens to the acknowledgements.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from engine.endpoint import Endpoint
from tests.corpus_files import RecordedStream

PIECES = (1, 2, 3, 17, 256, 1448, 4096, 16384, 65536)
RECORDED_LINE_END = b"\r\n"
OPTIONS_SINCE: dict[str, tuple[int, ...]] = {
    "listening-port": (2, 6),
    "ip-address": (3, 2),
    "capa": (3, 2),
}


class ScriptedSource:
    """One recording as a server. Use `playing`.

    asked: every command heard on replication connections, as text. acknowledged_offset: of the newest
    REPLCONF ACK. password: asked for, when there is one. info_is_permitted: else INFO answers -NOPERM.
    """

    def __init__(
        self,
        recording: RecordedStream,
        *,
        seed: int,
        password: str | None = None,
        info_is_permitted: bool = True,
    ) -> None:
        self.expected: dict[str, Any] = recording.expected
        self.wire = recording.wire
        self.asked: list[str] = []
        self.acknowledged_offset = -1
        self.connections = 0
        self.has_sent_all = asyncio.Event()
        self._random = random.Random(seed)
        self._password = password
        self._info_is_permitted = info_is_permitted
        self._port = 0
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=self._port, password=self._password)

    @cached_property
    def version(self) -> tuple[int, ...]:
        return tuple(map(int, self.expected["server"]["version"].split(".")))

    @property
    def product(self) -> str:
        return str(self.expected["server"]["product"])

    @property
    def has_psync(self) -> bool:
        return bool(self.expected["handshake"] == "psync")

    @property
    def replid(self) -> str:
        return str(self.expected["first_line"].split()[1]) if self.has_psync else ""

    @property
    def offset_at_end(self) -> int:
        """The offset after the last byte; counted from 0 where the source knows none."""
        if self.has_psync:
            return int(self.expected["offset_at_end"])
        return len(self.wire) - int(self.expected["stream_start"])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._open[handler] = writer
        self.connections += 1
        try:
            await _Conversation(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side went away
        finally:
            del self._open[handler]
            writer.close()

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[ScriptedSource]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._open.values():
                writer.transport.abort()
            await asyncio.gather(*self._open)
            await server.wait_closed()


class _Conversation:
    """One connection: a replica's, or a control connection."""

    def __init__(
        self, source: ScriptedSource, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._source = source
        self._reader = reader
        self._writer = writer
        self._is_logged_in = source._password is None
        self._has_acknowledged = asyncio.Event()
        self._playing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            while True:
                arguments = await self._read_command()
                if arguments:
                    self._answer(arguments[0].upper(), arguments[1:])
        finally:
            if self._playing is not None:
                self._playing.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await self._playing

    async def _read_command(self) -> list[str]:
        line = await self._reader.readuntil(b"\n")
        if line == b"\n":
            return []  # a replica's sign of life while it loads
        assert line.startswith(b"*"), line
        arguments = []
        for _ in range(int(line[1:])):
            size = int((await self._reader.readuntil(b"\n"))[1:])
            arguments.append((await self._reader.readexactly(size + 2))[:-2].decode("latin-1"))
        return arguments

    def _answer(self, name: str, arguments: list[str]) -> None:
        source = self._source
        if name != "INFO":
            source.asked.append(" ".join([name, *arguments]))
        if name == "AUTH":
            self._log_in(arguments)
        elif not self._is_logged_in:
            is_old = source.version < (2, 8)
            self._line(
                "-ERR operation not permitted" if is_old else "-NOAUTH Authentication required."
            )
        elif name == "PING":
            self._line("+PONG")
        elif name == "INFO":
            self._info()
        elif name == "REPLCONF":
            self._configure(arguments)
        elif name == "PSYNC" and source.has_psync:
            self._synchronise(arguments)
        elif name == "SYNC" and not source.has_psync:
            self._play(0)
        else:
            self._line(f"-ERR unknown command '{name}'")

    def _line(self, text: str) -> None:
        self._writer.write(text.encode() + RECORDED_LINE_END)

    def _log_in(self, arguments: list[str]) -> None:
        is_old = self._source.version < (6, 0)
        if arguments[-1] == self._source._password:
            self._is_logged_in = True
            self._line("+OK")
        else:
            self._line(
                "-ERR invalid password" if is_old else "-WRONGPASS invalid username-password pair"
            )

    def _info(self) -> None:
        source = self._source
        if not source._info_is_permitted:
            self._line("-NOPERM this user has no permissions to run the 'info' command")
            return
        text = (
            f"# Server\r\nredis_version:{source.expected['server']['version']}\r\nrole:master\r\n"
        )
        if source.has_psync:
            text += f"master_repl_offset:{source.offset_at_end}\r\n"
        self._line(f"${len(text)}\r\n{text}")

    def _configure(self, arguments: list[str]) -> None:
        source = self._source
        option = arguments[0].lower()
        if option == "ack":  # never answered
            source.acknowledged_offset = int(arguments[1])
            self._has_acknowledged.set()
        elif source.version < (2, 6):
            self._line("-ERR unknown command 'REPLCONF'")
        elif (option == "version" and source.product == "valkey" and source.version >= (8, 0)) or (
            option in OPTIONS_SINCE and source.version >= OPTIONS_SINCE[option]
        ):
            self._line("+OK")
        else:
            self._line(f"-ERR Unrecognized REPLCONF option: {option}")

    def _synchronise(self, arguments: list[str]) -> None:
        source, expected = self._source, self._source.expected
        wanted = int(arguments[1]) - 1
        if arguments[0] != source.replid or not (
            expected["offset_at_stream_start"] <= wanted <= source.offset_at_end
        ):
            self._play(0)
            return
        self._line(f"+CONTINUE {source.replid}" if source.version >= (4, 0) else "+CONTINUE")
        self._play(expected["stream_start"] + wanted - expected["offset_at_stream_start"])

    def _play(self, start: int) -> None:
        self._playing = asyncio.create_task(self._play_from(start), name="playing")

    async def _play_from(self, start: int) -> None:
        source = self._source
        wire, stream_start = source.wire, source.expected["stream_start"]
        if start < stream_start:
            # Newlines while the fork writes the RDB stand before its length or mark.
            announced = wire.index(b"$", start)
            await self._send(wire[start:announced] + b"\n" * source._random.randrange(4))
            await self._send(wire[announced:stream_start])
            if source.expected["form"] == "eof" and source.has_psync:
                await self._has_acknowledged.wait()  # a diskless source goes on only then
            start = stream_start
        await self._send(wire[start:])
        source.has_sent_all.set()

    async def _send(self, data: bytes) -> None:
        rng = self._source._random
        at = 0
        while at < len(data):
            size = rng.choice(PIECES)
            self._writer.write(data[at : at + size])
            at += size
            if rng.random() < 0.7:
                await asyncio.sleep(0)  # let the other side read this piece by itself
            await self._writer.drain()
