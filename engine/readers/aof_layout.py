"""What of an append-only file is served, found before anything is: the snapshot at its front, the stream behind it.

The files are read once from end to end. As the server does on loading (aof.c, loadAppendOnlyFiles), a last command or
transaction that is not whole is cut off, in the last file only; any other damage is an error.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from engine.codec.aof_scan import AofScan
from engine.codec.command_text import encode
from engine.codec.dump_scan import DumpScan
from engine.errors import CorruptAof, CorruptRdb, SourceUnreachable
from engine.readers.aof_manifest import SUFFIX, read_manifest
from engine.readers.file_kind import MAGICS, FileKind

log = structlog.get_logger("engine.readers")

PIECE_BYTES = 1 << 20
LANDMARK_BYTES = 1 << 20
SAMPLE_BYTES = 1 << 16
MANIFEST_LIMIT_BYTES = 1 << 26
REPORT_SECONDS = 5.0
BETWEEN_FILES = encode(
    "SELECT", 0
)  # each file begins in database 0, whatever the one before ended in


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, end) of a file. landmarks: places where a command begins, rising, from `start` on."""

    path: Path
    start: int
    end: int
    landmarks: array[int]

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start

    def landmark_before(self, at: int) -> int:
        """The nearest known beginning of a command at or before a place in the file."""
        return self.landmarks[bisect_right(self.landmarks, at) - 1]


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left out at the end. at: its place in the file."""

    file: str
    at: int
    size: int
    in_transaction: bool


@dataclass(slots=True)
class AofLayout:
    """snapshot: the file whose first snapshot_bytes are an RDB; None: there is none. stream: parts and the bytes between.

    replid: the same for the same files, another for others.
    """

    snapshot: Path | None = None
    snapshot_bytes: int = 0
    stream: list[Part | bytes] = field(default_factory=list)
    stream_bytes: int = 0
    commands: int = 0
    cut: Cut | None = None
    replid: str = ""


def lay_out(
    path: Path, kind: FileKind, is_stopping: Callable[[], bool] = lambda: False
) -> AofLayout:
    """Read the files and find what is served. Takes as long as reading them does; run it beside the event loop.

    Raises:
        SourceUnreachable: a file is missing or cannot be read. CorruptAof, CorruptRdb: a file is damaged.
    """
    files = [path] if kind is FileKind.AOF else _files_of(path)
    layout = AofLayout()
    identity = hashlib.sha1(b"append-only file 1", usedforsecurity=False)
    for number, file in enumerate(files):
        is_last = number == len(files) - 1
        try:
            _add(layout, file, identity, number=number, is_last=is_last, is_stopping=is_stopping)
        except OSError as error:
            raise SourceUnreachable(f"{file} cannot be read: {error.strerror}") from None
    layout.replid = identity.hexdigest()
    return layout


def snapshot_of(path: Path, kind: FileKind) -> tuple[Path, int]:
    """The file that begins with a snapshot, and how many bytes there are with all that belongs to it.

    Raises:
        SourceUnreachable: there is none, or a file is missing. CorruptAof: the manifest is damaged.
    """
    files = [path] if kind is not FileKind.PARTS else _files_of(path)
    try:
        with files[0].open("rb") as file:
            has_snapshot = file.read(SAMPLE_BYTES).startswith(MAGICS)
        size = sum(it.stat().st_size for it in files)
    except OSError as error:
        raise SourceUnreachable(f"{files[0]} cannot be read: {error.strerror}") from None
    if not has_snapshot:
        raise SourceUnreachable(
            f"{files[0].name} holds commands only and no snapshot, so there is nothing to inspect",
            hint=f"load it into a server (redis-ferry sync file:{path} …) and inspect that",
        )
    return files[0], size


def _files_of(path: Path) -> list[Path]:
    manifest = _manifest_in(path) if path.is_dir() else path
    try:
        if manifest.stat().st_size > MANIFEST_LIMIT_BYTES:
            raise CorruptAof(f"the manifest {manifest} is too large to be one", file=manifest.name)
        text = manifest.read_bytes()
    except OSError as error:
        raise SourceUnreachable(
            f"the manifest {manifest} cannot be read: {error.strerror}"
        ) from None
    files = [manifest.parent / name for name in read_manifest(text, name=manifest.name).files]
    for file in files:
        if not file.is_file():
            raise SourceUnreachable(
                f"{file.name} is missing: the manifest {manifest.name} names it",
                hint="copy the whole folder (appendonlydir), while the server is stopped or rewrites nothing",
            )
    return files


def _manifest_in(folder: Path) -> Path:
    try:
        found = sorted(
            it for it in folder.iterdir() if it.suffix == SUFFIX and not it.name.startswith("temp-")
        )
    except OSError as error:
        raise SourceUnreachable(f"the folder {folder} cannot be read: {error.strerror}") from None
    if not found:
        inner = folder / "appendonlydir"
        raise SourceUnreachable(
            f"the folder {folder} holds no {SUFFIX} file, so it is no multi-part append-only file",
            hint=f"give file:{inner}"
            if inner.is_dir()
            else "give the server's appenddirname folder",
        )
    if len(found) > 1:
        names = ", ".join(it.name for it in found[:5])
        raise SourceUnreachable(
            f"the folder {folder} holds several manifests: {names}",
            hint=f"name one: file:{found[0]}",
        )
    return found[0]


def _add(
    layout: AofLayout,
    path: Path,
    identity: hashlib._Hash,
    *,
    number: int,
    is_last: bool,
    is_stopping: Callable[[], bool],
) -> None:
    status = path.stat()
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
        file.seek(max(0, status.st_size - SAMPLE_BYTES))
        tail = file.read(SAMPLE_BYTES)
    described = f"\n{path.name} {status.st_size} {status.st_mtime_ns}\n"
    identity.update(described.encode("utf-8", "surrogateescape") + head + tail)
    start = 0
    if head.startswith(MAGICS):
        if number:
            raise CorruptAof(
                f"{path.name} begins with a snapshot and is not the first file",
                file=path.name,
                offset=0,
                hint="the manifest names the files in a wrong order",
            )
        start = _snapshot_end(path, status.st_size, is_stopping)
        layout.snapshot, layout.snapshot_bytes = path, start
    landmarks, end = _walk(layout, path, start, status.st_size, is_last, is_stopping)
    if layout.stream and end > start:
        layout.stream.append(BETWEEN_FILES)
        layout.stream_bytes += len(BETWEEN_FILES)
    if end > start:
        layout.stream.append(Part(path, start, end, landmarks))
        layout.stream_bytes += end - start


def _snapshot_end(path: Path, size: int, is_stopping: Callable[[], bool]) -> int:
    """Where the RDB at the front of the file ends."""
    scan = DumpScan(0, 0, b"", 0)
    progress = _Progress(path, size, is_stopping)
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                scan.feed(piece)
                if scan.scan():
                    return scan.bytes_read
                progress.tell(scan.bytes_read)
        scan.finish()
    except CorruptRdb as error:
        raise CorruptRdb(
            f"{path.name}: {error.message}",
            offset=error.offset,
            detail=error.detail,
            hint=error.hint,
        ) from None
    return scan.bytes_read


def _walk(
    layout: AofLayout,
    path: Path,
    start: int,
    size: int,
    is_last: bool,
    is_stopping: Callable[[], bool],
) -> tuple[array[int], int]:
    """The landmarks of a file's commands, and where what is whole of them ends."""
    scan = AofScan(path.name, start)
    landmarks = array("q", [start])
    progress = _Progress(path, size, is_stopping)
    left = size - start
    with path.open("rb") as file:
        file.seek(start)
        while left:
            piece = file.read(min(PIECE_BYTES, left))
            if not piece:
                break
            left -= len(piece)
            scan.feed(piece)
            scan.annotations.clear()
            if scan.boundary - landmarks[-1] >= LANDMARK_BYTES:
                landmarks.append(scan.boundary)
            progress.tell(size - left)
    layout.commands += scan.commands
    if scan.is_whole and not left:
        return landmarks, size
    cut = Cut(path.name, scan.valid_end, size - scan.valid_end, scan.in_transaction)
    if not is_last:
        raise CorruptAof(
            f"{path.name} ends in the middle of a {'transaction' if cut.in_transaction else 'command'} "
            f"that begins at byte {cut.at}, and is not the last file",
            offset=cut.at,
            file=path.name,
            hint="a server would not load it either; give another copy",
        )
    layout.cut = cut
    return landmarks, cut.at


class _Progress:
    """Says now and then how far the first reading is, and ends it."""

    def __init__(self, path: Path, size: int, is_stopping: Callable[[], bool]) -> None:
        self._name, self._size, self._is_stopping = path.name, size, is_stopping
        self._at = time.monotonic() + REPORT_SECONDS

    def tell(self, position: int) -> None:
        if self._is_stopping():
            raise SourceUnreachable(f"stopped while {self._name} was being checked")
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + REPORT_SECONDS
            log.info("aof.checking", file=self._name, bytes=position, of=self._size)
