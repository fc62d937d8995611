"""The keys that have changed and are still to be read: in memory, and in a file when they are many."""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from engine.stats import ReaderStats

MOST_HELD = 200_000
_HEAD = struct.Struct("<II")

Key = tuple[int, bytes]


class KeyFile:
    """Names one after the other in a file that nobody else sees. It goes when it is closed."""

    def __init__(self, directory: Path | None) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(  # noqa: SIM115 - kept open
            dir=directory, prefix="redis-ferry-keys-"
        )
        self.count = 0

    def add(self, db: int, name: bytes) -> None:
        """Append one."""
        self._file.write(_HEAD.pack(db, len(name)) + name)
        self.count += 1

    def keys(self) -> Iterator[Key]:
        """All, oldest first. Nothing may be added meanwhile."""
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            db, size = _HEAD.unpack(head)
            yield db, self._file.read(size)

    def close(self) -> None:
        """Drop it."""
        self._file.close()


class ChangedKeys:
    """Each key once, in the order in which they came; what finds no room in memory waits in a file, maybe twice.

    added: how many were ever added, taken: how many of these are not waiting any more.
    """

    def __init__(
        self, stats: ReaderStats, directory: Path | None, most_held: int = MOST_HELD
    ) -> None:
        self._stats = stats
        self._directory = directory
        self._most_held = most_held
        self._held: dict[Key, float] = {}
        self._file: KeyFile | None = None
        self._reading: tuple[KeyFile, Iterator[Key]] | None = None
        self.added = 0
        self.taken = 0

    def add(self, db: int, name: bytes) -> None:
        """One has changed now."""
        key = (db, name)
        if key in self._held:
            return
        self.added += 1
        if self._file is None and len(self._held) < self._most_held:
            self._held[key] = time.monotonic()
            return
        if self._file is None:
            self._file = KeyFile(self._directory)
        self._file.add(db, name)

    def take(self, limit: int) -> list[Key]:
        """The next few, oldest first; they are no longer waiting."""
        found = list(self._from_file(limit))
        held = list(islice(self._held, limit - len(found)))
        for key in held:
            del self._held[key]
        found += held
        if not self._held and self._reading is None and self._file is not None:
            file, self._file = self._file, None
            self._reading = (file, file.keys())
            found += self._from_file(limit - len(found))
        self.taken += len(found)
        self._tell()
        return found

    def _from_file(self, limit: int) -> Iterator[Key]:
        while limit > 0 and self._reading is not None:
            key = next(self._reading[1], None)
            if key is None:
                self._reading[0].close()
                self._reading = None
                return
            limit -= 1
            yield key

    def _tell(self) -> None:
        stats = self._stats
        stats.pending_keys = self.added - self.taken
        if not stats.pending_keys:
            stats.pending_since_seconds = None
        elif self._held and self._reading is None:
            stats.pending_since_seconds = next(iter(self._held.values()))
        elif stats.pending_since_seconds is None:
            stats.pending_since_seconds = time.monotonic()

    def note_waiting(self) -> None:
        """Bring the figures up to date; cheap."""
        self._tell()

    def close(self) -> None:
        """Drop everything."""
        if self._file is not None:
            self._file.close()
        if self._reading is not None:
            self._reading[0].close()
        self._held, self._file, self._reading = {}, None, None
