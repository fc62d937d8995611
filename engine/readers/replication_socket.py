"""The server's side of replication on a unix socket: what PSYNC, INFO and a few more need, and nothing else.

What is sent behind PSYNC is the feed's: it writes `+FULLRESYNC`, an RDB and the stream, or `+CONTINUE` and the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from engine.background import end_tasks
from engine.endpoint import Endpoint
from engine.errors import EngineError, SourceLinkLost, SourceNotReady, SourceUnreachable
from engine.position import Position

log = structlog.get_logger("engine.readers")

COMMAND_LIMIT_BYTES = 64 * 1024
MOST_WORDS = 1024
TURNS = 5  # of the event loop, from accepting a connection to its first line here, and to its end
# A file that has been read has nothing more to say, and is not lost for that.
SILENCE_SECONDS = 10**9
_MAY_PASS = (SourceLinkLost, SourceNotReady, SourceUnreachable)


class Feed(Protocol):
    """What is served."""

    @property
    def stream_end(self) -> int:
        """The newest offset of the stream: `master_repl_offset`."""

    @property
    def version(self) -> str:
        """The server's version that INFO tells."""

    @property
    def about(self) -> str:
        """More lines of INFO replication: `name:value`."""

    async def open(self, asked: Position | None) -> str:
        """Make ready, and return the answer to PSYNC: `FULLRESYNC replid offset` or `CONTINUE replid`.

        Raises:
            EngineError: why it cannot be; PSYNC is answered with it.
        """

    async def send(self, writer: asyncio.StreamWriter) -> None:
        """Send what follows the answer, until there is nothing more or it is cancelled.

        Raises:
            EngineError: why it cannot go on; the connection ends, and one that a new try cannot help is told to the
            next PSYNC. OSError: the engine went away.
        """

    def note_applied(self, offset: int) -> None:
        """The target has the stream up to here (REPLCONF ACK)."""


class ReplicationSocket:
    """Hand `endpoint` to the engine, `start`, and `close` at the end. failure: why it cannot go on."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        # Short, whatever the state folder is called: a socket's path has 103 bytes at most.
        self._folder = tempfile.TemporaryDirectory(
            prefix="redis-ferry-", ignore_cleanup_errors=True
        )
        self._path = Path(self._folder.name) / "source.sock"
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.failure: EngineError | None = None

    @property
    def endpoint(self) -> Endpoint:
        """The address that the engine connects to."""
        return Endpoint(unix_path=str(self._path))

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(
            self._accept, self._path, limit=COMMAND_LIMIT_BYTES
        )

    async def close(self) -> None:
        """Stop listening and end all conversations."""
        self._is_closed = True
        if self._server is not None:
            self._server.close()
        for _ in range(TURNS):  # one that was accepted a moment ago begins only now
            await asyncio.sleep(0)
            for conversation in self._conversations:
                conversation.cancel()
            if self._conversations:
                await asyncio.wait(self._conversations)
        self._folder.cleanup()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed:  # it was accepted a moment before
            writer.transport.abort()
            return

        def end(conversation: asyncio.Task[None]) -> None:
            self._conversations.discard(conversation)
            if conversation.cancelled():  # before it began
                writer.transport.abort()

        conversation = asyncio.create_task(self._converse(reader, writer), name="conversation")
        self._conversations.add(conversation)
        conversation.add_done_callback(end)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feeding: asyncio.Task[None] | None = None
        try:
            while True:
                command = await _read_command(reader)
                if command[:1] == [b"PSYNC"] and len(command) == 3 and feeding is None:
                    if self.failure is not None:
                        writer.write(_failure_line(self.failure))
                        continue
                    try:
                        answer = await self._feed.open(_position_of(command))
                    except EngineError as error:
                        log.debug("reader.not_opened", error=str(error))
                        writer.write(_failure_line(error))
                        continue
                    writer.write(f"+{answer}\r\n".encode())
                    feeding = asyncio.create_task(self._feed.send(writer), name="feed")
                    feeding.add_done_callback(self._end_of_feed(writer))
                elif command[:2] == [b"REPLCONF", b"ACK"] and len(command) == 3:
                    self._feed.note_applied(int(command[2]))
                elif command and feeding is None:
                    writer.write(self._answer(command))
                    await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the engine went away: it sees the connection end
        except asyncio.CancelledError:
            writer.transport.abort()  # `close`; asyncio would report the cancellation of a stream's callback as an error
        finally:
            await end_tasks(feeding)
            with contextlib.suppress(RuntimeError):  # the loop has been closed under us
                writer.close()

    def _end_of_feed(self, writer: asyncio.StreamWriter) -> Callable[[asyncio.Task[None]], None]:
        def note(feeding: asyncio.Task[None]) -> None:
            if feeding.cancelled():
                return
            error = feeding.exception()
            if error is None:
                return  # all has been sent; the connection stays for acknowledgements
            if isinstance(error, EngineError):
                log.warning("reader.stopped", error=str(error))
                self.failure = None if isinstance(error, _MAY_PASS) else error
            elif not isinstance(error, OSError):
                log.error("reader.failed", error=repr(error))
            with contextlib.suppress(RuntimeError):
                writer.close()

        return note

    def _answer(self, command: list[bytes]) -> bytes:
        match command[0]:
            case b"PING":
                return b"+PONG\r\n"
            case b"REPLCONF" | b"SELECT" | b"CLIENT":
                return b"+OK\r\n"
            case b"INFO":
                return _bulk(
                    b"# Server\r\nredis_version:%b\r\n# Replication\r\nrole:master\r\nmaster_repl_offset:%d\r\n%b"
                    % (
                        self._feed.version.encode(),
                        self._feed.stream_end,
                        self._feed.about.encode(),
                    )
                )
            case b"CONFIG" if command[1:] == [b"GET", b"REPL-TIMEOUT"]:
                return b"*2\r\n" + _bulk(b"repl-timeout") + _bulk(b"%d" % SILENCE_SECONDS)
            case _:
                return b"-ERR this source cannot do this\r\n"


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _failure_line(error: EngineError) -> bytes:
    """In the words of the handshake: TRYAGAIN for what may pass."""
    text = " ".join(str(error).split())
    if isinstance(error, _MAY_PASS):
        return b"-TRYAGAIN " + text.encode("utf-8", "replace") + b"\r\n"
    return b"-READER " + text.encode("utf-8", "replace") + b"\r\n"


def _position_of(command: list[bytes]) -> Position | None:
    """What PSYNC asks for; None for everything."""
    replid, text = command[1].decode("ascii", "replace").lower(), command[2]
    if replid == "?" or not text.isdigit():
        return None
    return Position(replid, int(text) - 1)


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """One command in upper case words; empty for a lone newline, a replica's sign of life."""
    line = (await reader.readuntil(b"\n")).rstrip(b"\r\n")
    if not line.startswith(b"*"):
        return line.upper().split()
    words = []
    for _ in range(min(int(line[1:]), MOST_WORDS)):
        length = int((await reader.readuntil(b"\n"))[1:])
        if not 0 <= length <= COMMAND_LIMIT_BYTES:
            raise ValueError("an argument of that size")
        words.append((await reader.readexactly(length + 2))[:-2].upper())
    return words
