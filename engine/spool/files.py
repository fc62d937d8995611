"""The thread's side of the spool: segment files are opened, written, read and removed here.

One thread calls these, one call after the other, so that a file is never removed under a read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from engine.errors import SpoolDamaged
from engine.spool.chunk import Chunk
from engine.spool.segment import (
    SegmentHeader,
    encode_header,
    encode_records,
    find_records,
    wanted_bytes,
)

log = structlog.get_logger("engine.spool")

SUFFIX = ".seg"
_BUFFERS_AT_ONCE = 1000  # under IOV_MAX


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did: the file and the part of it that holds the new records."""

    path: Path
    start: int
    end: int


@dataclass(slots=True)
class _OpenFile:
    path: Path
    fd: int
    end: int


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record's content (see segment.py)."""

    offset: int
    received_ms: int
    is_late: bool
    data: bytes


class SegmentFiles:
    """The files of one run in one folder. record_bytes: most that chunks are joined to."""

    def __init__(self, folder: Path, run_name: str, *, record_bytes: int) -> None:
        self._folder = folder
        self._run_name = run_name
        self._record_bytes = record_bytes
        self._number = 0
        self._active: _OpenFile | None = None

    def write(self, header: SegmentHeader | None, chunks: Sequence[Chunk]) -> Written:
        """Append `chunks`, to a new file if there is a header for it.

        Raises:
            OSError: the disk cannot take it. Nothing of it is left, the same call may be made again.
        """
        file = self._active if header is None else self._create(encode_header(header))
        assert file is not None
        try:
            end = _write_all(file.fd, encode_records(chunks, self._record_bytes), at=file.end)
        except OSError:
            if file is self._active:
                os.ftruncate(file.fd, file.end)
            else:
                os.close(file.fd)
                remove_file(file.path)
            raise
        if file is not self._active:
            self._close_file()
            self._active = file
        start, file.end = file.end, end
        return Written(file.path, start, end)

    def _create(self, header: bytes) -> _OpenFile:
        make_private_folder(self._folder)
        while True:
            self._number += 1
            path = self._folder / f"{self._run_name}-{self._number:08d}{SUFFIX}"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            break
        try:
            return _OpenFile(path, fd, _write_all(fd, [header], at=0))
        except OSError:
            os.close(fd)
            remove_file(path)
            raise

    def read(self, path: Path, at: int, size: int, limit: int) -> tuple[list[ReadRecord], int]:
        """The records from `at` on in about `size` bytes, at least one, and where the next one starts.

        limit: where the written part of the file ends.

        Raises:
            SpoolDamaged: they are not what was written, or cannot be read.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                block = _read_all(fd, min(size, limit - at), at)
                wanted = wanted_bytes(block)
                if len(block) < wanted <= limit - at:
                    block = _read_all(fd, wanted, at)
            finally:
                os.close(fd)
        except OSError as error:
            raise SpoolDamaged(
                f"the spool's file {path.name} cannot be read: {error.strerror}",
                hint="check the disk of the spool's folder",
            ) from error
        view = memoryview(block)
        records, used, is_bad = find_records(view)
        if is_bad or not records:
            raise SpoolDamaged(
                f"the spool's file {path.name} has changed on disk",
                detail=f"the record at byte {at + used} is not what was written",
                hint="check the disk of the spool's folder",
            )
        contents = [
            ReadRecord(it.offset, it.received_ms, it.is_late, block[it.at : it.at + it.length])
            for it in records
        ]
        return contents, at + used

    def remove(self, paths: Sequence[Path], *, with_folder: bool = False) -> None:
        """Remove files, oldest first, and the folder if it is wanted and empty. What fails is logged."""
        for path in paths:
            if self._active is not None and path == self._active.path:
                self._close_file()
            remove_file(path)
        if with_folder:
            _remove_folder(self._folder)

    def remove_all(self, *, with_parent: bool) -> None:
        """Remove every run's files, the folder, and the folder above it if that is wanted and empty."""
        self._close_file()
        for path in segment_paths(self._folder):
            remove_file(path)
        _remove_folder(self._folder)
        if with_parent:
            _remove_folder(self._folder.parent)

    def remove_own(self, paths: Sequence[Path]) -> None:
        """Remove `paths` and whatever file is being written."""
        active = [] if self._active is None else [self._active.path]
        self.remove([*(it for it in paths if it not in active), *active], with_folder=True)

    def close(self) -> None:
        """Close the file being written; it stays."""
        self._close_file()

    def _close_file(self) -> None:
        if self._active is not None:
            os.close(self._active.fd)
            self._active = None


def make_private_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it, for this user only."""
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)


def segment_paths(folder: Path) -> list[Path]:
    """The segment files in `folder`, in the order of their names."""
    try:
        return sorted(it for it in folder.iterdir() if it.name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_file(path: Path) -> None:
    """Remove a file; log why it cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("spool.file_stays", path=str(path), error=error.strerror)


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # another process's files, or a file that could not be removed: told already


def _write_all(fd: int, buffers: Sequence[bytes], at: int) -> int:
    for first in range(0, len(buffers), _BUFFERS_AT_ONCE):
        group = buffers[first : first + _BUFFERS_AT_ONCE]
        size = sum(map(len, group))
        written = os.pwritev(fd, group, at)
        if written < size:  # a full disk takes a part; the next call says why
            rest = memoryview(b"".join(group))
            while written < size:
                written += os.pwrite(fd, rest[written:], at + written)
        at += size
    return at


def _read_all(fd: int, size: int, at: int) -> bytes:
    parts = []
    while size and (part := os.pread(fd, size, at)):
        parts.append(part)
        size -= len(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
