"""A backup file served as a replication source on a unix socket, so that the engine takes it as it takes a server.

It answers the handshake, sends the RDB with its length, and then says nothing more: enough for a full migration.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from pathlib import Path

from engine.endpoint import Endpoint
from engine.errors import SourceUnreachable

PIECE_BYTES = 256 * 1024
COMMAND_LIMIT_BYTES = 64 * 1024
MAGICS = (b"REDIS0", b"VALKEY")
_INFO = (
    b"# Server\r\nredis_version:0.0.0\r\n# Replication\r\nrole:master\r\nmaster_repl_offset:0\r\n"
)


class BackupSource:
    """One RDB file as a source. Create, hand `endpoint` to the engine, `start`, and `close` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Short, whatever the state folder is called: a socket's path has 103 bytes at most.
        self._folder = tempfile.TemporaryDirectory(
            prefix="redis-ferry-", ignore_cleanup_errors=True
        )
        self._socket = Path(self._folder.name) / "backup.sock"
        self._server: asyncio.Server | None = None
        self._replid = secrets.token_hex(20)
        self._conversations: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> Endpoint:
        """The address that the engine connects to."""
        return Endpoint(unix_path=str(self._socket))

    async def start(self) -> None:
        """Listen.

        Raises:
            SourceUnreachable: the file cannot be read, or is no RDB.
        """
        try:
            with self._path.open("rb") as file:
                magic = file.read(6)
        except OSError as error:
            raise SourceUnreachable(
                f"the backup file {self._path.name} cannot be read: {error.strerror}"
            ) from None
        if magic not in MAGICS:
            raise SourceUnreachable(
                f"the backup file {self._path.name} is no RDB file",
                hint="give an .rdb file as BGSAVE writes it; .aof and archives are not supported yet",
            )
        self._server = await asyncio.start_unix_server(
            self._serve, self._socket, limit=COMMAND_LIMIT_BYTES
        )

    async def close(self) -> None:
        """Stop listening and end all conversations."""
        if self._server is not None:
            self._server.close()
        for conversation in self._conversations:
            conversation.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations)
        self._folder.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        assert conversation is not None
        self._conversations.add(conversation)
        try:
            while True:
                command = await _read_command(reader)
                if command[:1] == [b"PSYNC"]:
                    writer.write(f"+FULLRESYNC {self._replid} 0\r\n".encode())
                    await self._send_file(writer)
                elif command:
                    writer.write(_answer(command))
                    await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the engine went away, or the file ended early: it sees the connection end
        except asyncio.CancelledError:
            pass  # `close`; asyncio would report the cancellation of a stream's callback as an error
        finally:
            self._conversations.discard(conversation)
            with contextlib.suppress(RuntimeError):  # the loop has been closed under us
                writer.close()

    async def _send_file(self, writer: asyncio.StreamWriter) -> None:
        with self._path.open("rb") as file:
            left = self._path.stat().st_size
            writer.write(b"$%d\r\n" % left)
            while left:
                piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, left))
                if not piece:
                    raise OSError("the file has become shorter")
                left -= len(piece)
                writer.write(piece)
                await writer.drain()


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """One command in upper case words; empty for a lone newline, a replica's sign of life."""
    line = (await reader.readuntil(b"\n")).rstrip(b"\r\n")
    if not line.startswith(b"*"):
        return line.upper().split()
    words = []
    for _ in range(int(line[1:])):
        length = int((await reader.readuntil(b"\n"))[1:])
        words.append((await reader.readexactly(length + 2))[:-2].upper())
    return words


def _answer(command: list[bytes]) -> bytes:
    match command[0]:
        case b"PING":
            return b"+PONG\r\n"
        case b"REPLCONF":
            return b"" if command[1:2] == [b"ACK"] else b"+OK\r\n"
        case b"INFO":
            return b"$%d\r\n%s\r\n" % (len(_INFO), _INFO)
        case b"SELECT" | b"CLIENT":
            return b"+OK\r\n"
        case _:
            return b"-ERR a backup file cannot do this\r\n"
