"""A file served as a replication source: an RDB, or an append-only file with its snapshot and its commands."""

from __future__ import annotations

import asyncio
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from engine.codec.aof_scan import AofScan
from engine.codec.crc64 import crc64
from engine.endpoint import Endpoint
from engine.errors import CorruptAof, SourceRefused, SourceUnreachable
from engine.position import Position
from engine.readers.aof_layout import AofLayout, Part, lay_out
from engine.readers.file_kind import FileKind, kind_of
from engine.readers.replication_socket import ReplicationSocket

log = structlog.get_logger("engine.readers")

PIECE_BYTES = 256 * 1024
_EMPTY = b"REDIS0009\xff"
EMPTY_RDB = _EMPTY + crc64(_EMPTY).to_bytes(8, "little")


class FileSource:
    """Create, hand `endpoint` to the engine, `start`, and `close` at the end.

    has_stream: after `start`: commands follow the snapshot, so the engine has to follow a stream, to its end.
    takes_cut: an append-only file whose last command is not whole is served up to there; otherwise it is refused.
    """

    def __init__(self, path: Path, *, takes_cut: bool = True) -> None:
        self._path = path
        self._takes_cut = takes_cut
        self._stop = threading.Event()
        self._feed = _FileFeed(AofLayout(path))
        self._socket = ReplicationSocket(self._feed)
        self.has_stream = False

    @property
    def endpoint(self) -> Endpoint:
        """The address that the engine connects to."""
        return self._socket.endpoint

    async def start(self) -> None:
        """Look the file over and listen.

        Raises:
            SourceUnreachable: a file is missing, cannot be read, or is of no kind that is known.
            CorruptAof, CorruptRdb: an append-only file that no server would load, or one that is cut off and not to
            be taken.
        """
        kind = await asyncio.to_thread(kind_of, self._path)
        if kind is FileKind.RDB:
            self._feed.layout = _layout_of_dump(self._path)
        else:
            layout = await asyncio.to_thread(lay_out, self._path, kind, self._stop.is_set)
            self._say(layout)
            self._feed.layout = layout
            self.has_stream = True
        await self._socket.start()

    async def close(self) -> None:
        """Stop listening and end all conversations."""
        self._stop.set()
        await self._socket.close()

    def _say(self, layout: AofLayout) -> None:
        log.info(
            "aof.checked",
            snapshot_bytes=layout.snapshot_bytes,
            stream_bytes=layout.stream_bytes,
            commands=layout.commands,
        )
        cut = layout.cut
        if cut is None:
            return
        what = "transaction" if cut.in_transaction else "command"
        if not self._takes_cut:
            raise CorruptAof(
                f"{cut.file} ends in the middle of a {what} that begins at byte {cut.at}",
                offset=cut.at,
                file=cut.file,
                hint="take it up to there with --aof-truncated load, as a server does, or give a whole copy",
            )
        log.warning(
            "aof.truncated",
            file=cut.file,
            at=cut.at,
            left_out_bytes=cut.size,
            means=f"the last {what} is not whole and is left out, as a server leaves it out on loading",
        )


def _layout_of_dump(path: Path) -> AofLayout:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SourceUnreachable(
            f"the backup file {path.name} cannot be read: {error.strerror}"
        ) from None
    return AofLayout(snapshot=path, snapshot_bytes=size, replid=secrets.token_hex(20))


@dataclass(slots=True)
class _FileFeed:
    layout: AofLayout
    start: int = -1  # where the stream goes on; negative: with the snapshot first
    version: str = "0.0.0"
    about: str = ""

    @property
    def stream_end(self) -> int:
        return self.layout.stream_bytes

    def note_applied(self, offset: int) -> None:
        """The files stay as they are."""

    async def open(self, asked: Position | None) -> str:
        layout = self.layout
        self.start = -1
        if asked is not None and asked.replid == layout.replid:
            self.start = asked.offset
        if not 0 <= self.start <= layout.stream_bytes:
            self.start = -1
            return f"FULLRESYNC {layout.replid} 0"
        return f"CONTINUE {layout.replid}"

    async def send(self, writer: asyncio.StreamWriter) -> None:
        layout, start = self.layout, self.start
        if start < 0:
            start = 0
            if layout.snapshot is None:
                writer.write(b"$%d\r\n" % len(EMPTY_RDB) + EMPTY_RDB)
            else:
                writer.write(b"$%d\r\n" % layout.snapshot_bytes)
                await _send(layout.snapshot, 0, layout.snapshot_bytes, writer)
        at = 0
        for part in layout.stream:
            size = len(part) if isinstance(part, bytes) else part.size
            if at + size > start:
                skipped = max(0, start - at)
                if isinstance(part, bytes):
                    writer.write(part[skipped:])
                else:
                    await _send_commands(part, part.start + skipped, writer)
            at += size
        await writer.drain()


async def _send(path: Path, start: int, end: int, writer: asyncio.StreamWriter) -> None:
    with _opened(path) as file:
        file.seek(start)
        while start < end:
            piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, end - start))
            if not piece:
                raise _shorter(path)
            start += len(piece)
            writer.write(piece)
            await writer.drain()


async def _send_commands(part: Part, first: int, writer: asyncio.StreamWriter) -> None:
    """The part from byte `first` of its file on; annotations as newlines, which count as bytes and mean nothing."""
    at = part.landmark_before(first)
    scan = AofScan(part.path.name, at)
    held = b""
    with _opened(part.path) as file:
        file.seek(at)
        while at < part.end:
            piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, part.end - at))
            if not piece:
                raise _shorter(part.path)
            at += len(piece)
            scan.feed(piece)
            ready = held + piece
            begin = at - len(ready)
            # A line whose end has not come may be an annotation.
            whole = len(ready) if at == part.end else min(len(ready), scan.position - begin)
            if scan.annotations:
                blanked = bytearray(ready)
                for start, end in scan.annotations:
                    blanked[start - begin : end - begin] = b"\n" * (end - start)
                scan.annotations.clear()
                ready = bytes(blanked)
            writer.write(ready[max(0, first - begin) : whole])
            held = ready[whole:]
            await writer.drain()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceRefused(f"{path.name} cannot be read: {error.strerror}") from None


def _shorter(path: Path) -> SourceRefused:
    return SourceRefused(f"{path.name} has become shorter while it was read")
