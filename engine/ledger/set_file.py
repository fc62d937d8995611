"""A key set in a file: the memory that engine/codec/key_set.py works on.

What is written survives the death of the process at any moment, because the pages belong to the kernel. It
does not survive the machine's: that is for the ledger to notice.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from pathlib import Path

from engine.codec.key_set import EMPTY_SET_BYTES, KeySet
from engine.errors import LedgerError

MADV_POPULATE_WRITE = 23  # Linux 5.14; Python has no name for it
FILE_STEP_BYTES = 1024 * 1024


class SetFile:
    """A file and the set in it; made where there is none.

    Raises:
        LedgerError: the file cannot be made, opened or read as a set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_closed = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(path, error) from error
        try:
            size = os.fstat(self._fd).st_size
            if size < EMPTY_SET_BYTES:
                size = EMPTY_SET_BYTES
                self._allocate(0, size)
            # How much of a longer file is allocated is not known any more: its last region, at least.
            self._allocated_bytes = size if size == EMPTY_SET_BYTES else 0
            self._map = mmap.mmap(self._fd, size)
            self.keys = KeySet(self)
        except OSError as error:
            os.close(self._fd)
            raise unusable(path, error) from error
        except ValueError as error:
            self._map.close()
            os.close(self._fd)
            raise LedgerError(
                f"{path} is damaged: {error}",
                hint="remove the ledger's folder; a full resync then cannot tell the task's own keys",
            ) from error

    def _allocate(self, start: int, size: int) -> None:
        # A page without a block on the disk would end the process (SIGBUS) when it is first written to.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, start, size)
        else:
            os.pwrite(self._fd, bytes(size), start)

    def _allocate_ahead(self, start: int, end: int) -> None:
        """Allocate from `start` to `end` and some more: the tables grow at about the same time."""
        done = self._allocated_bytes or start
        ahead = min(max(end, done + max(done // 8, FILE_STEP_BYTES)), len(self._map))
        try:
            self._allocate(done, ahead - done)
        except OSError:
            if ahead == end:
                raise
            self._allocate(done, end - done)
            ahead = end
        self._allocated_bytes = ahead

    def let_go(self) -> None:
        """Have no page counted as the process's: they stay the kernel's, and come back when they are touched."""
        if sys.platform == "linux":  # elsewhere it may drop what was written
            with contextlib.suppress(OSError, ValueError):
                self._map.madvise(mmap.MADV_DONTNEED)

    def view(self) -> memoryview:
        """The whole file."""
        return memoryview(self._map)

    def extend(self, start: int, size: int) -> None:
        """Have bytes [start, start + size) too. No view of the file may be left.

        Raises:
            LedgerError: the disk has no room for them; all is as it was.
        """
        try:
            if start + size > len(self._map):
                # Only what is allocated takes room on the disk; the rest saves mapping again so often.
                wanted = max(start + size, 2 * len(self._map))
                self._map.resize(-(-wanted // FILE_STEP_BYTES) * FILE_STEP_BYTES)
            if start + size > self._allocated_bytes:
                self._allocate_ahead(start, start + size)
        except OSError as error:
            raise unusable(self.path, error) from error
        if start % mmap.PAGESIZE == 0:  # all of it is about to be written to, in no order
            with contextlib.suppress(OSError, ValueError):
                self._map.madvise(MADV_POPULATE_WRITE, start, size)

    def give_up(self, start: int, size: int) -> None:
        """Return the room of these bytes to the disk, where it can take it back and there is much of it."""
        if size >= FILE_STEP_BYTES and hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError, ValueError):
                self._map.madvise(mmap.MADV_REMOVE, start, size)

    def sync(self) -> None:
        """Have everything on the disk itself."""
        self._map.flush()
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; the set in it cannot be used any more."""
        if not self._is_closed:
            self._is_closed = True
            self.keys.close()
            self._map.close()
            os.close(self._fd)

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


def unusable(path: Path, error: OSError) -> LedgerError:
    """What a file of the ledger that cannot be used is for the task."""
    return LedgerError(
        f"the list of the task's keys cannot be kept in {path}: {error.strerror}",
        hint="make room or give the process access there; the same command then goes on",
    )
