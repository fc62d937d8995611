"""A list of names' hashes in a file: the memory of engine/codec/key_log.py.

What is appended survives the death of the process at any moment, as with set_file.py. It takes no memory but the kernel's, which no
process counts as its own, and is written once and in order.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.codec.key_log import KeyLog
from engine.codec.key_set import KeySet, in_table_order
from engine.errors import LedgerError
from engine.ledger.set_file import unusable

MARK = (0x3130474C46520000).to_bytes(8, sys.byteorder)  # in another byte order it is none of ours
WORD_BYTES = 8
BLOCK_BYTES = 8 * 1024 * 1024
STEP_BYTES = 512 * 1024


class LogFile:
    """A file and the list in it; made where there is none. names: where hashes go. size_bytes: of the file.

    Raises:
        LedgerError: the file cannot be made, opened or read as a list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_closed = False
        self._moved_bytes = len(MARK)
        self._block = b""  # from there on, sorted
        self._moved_in_block = 0
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(path, error) from error
        try:
            self._begin()
        except OSError as error:
            os.close(self._fd)
            raise unusable(path, error) from error
        except LedgerError:
            os.close(self._fd)
            raise
        self.names = KeyLog(self._append)

    def _begin(self) -> None:
        size = os.fstat(self._fd).st_size
        if size < len(MARK):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, MARK, 0)
        elif os.pread(self._fd, len(MARK), 0) != MARK:
            raise LedgerError(
                f"{self.path} is damaged: not a list of keys",
                hint="remove the ledger's folder; a full resync then cannot tell the task's own keys",
            )
        # A name cut short was being written when the process died: its block was not sent.
        self.size_bytes = max(size - size % WORD_BYTES, len(MARK))

    @property
    def count(self) -> int:
        """How many hashes there are; one may be there twice."""
        return (self.size_bytes - len(MARK)) // WORD_BYTES

    def _append(self, words: bytes) -> None:
        if self._is_closed:
            raise ValueError("the list is closed")
        written = 0
        try:
            while written < len(words):  # a full disk takes a part; the next call says why
                rest = words[written:] if written else words
                written += os.pwrite(self._fd, rest, self.size_bytes + written)
        except OSError as error:
            raise unusable(self.path, error) from error  # what was written is written over
        self.size_bytes += written

    def move_some(self, keys: KeySet) -> bool:
        """Bring the next STEP_BYTES into a set; whether there is more. Some ten milliseconds.

        They come in blocks, each in the order of the set's tables: what is touched at a time is one or a few of these.

        Raises:
            LedgerError: it cannot be read, or the set not grow; the same call goes on.
        """
        if self._moved_in_block == len(self._block):
            self._moved_bytes += len(self._block)
            self._block, self._moved_in_block = b"", 0
            self._block = in_table_order(self._read(self._moved_bytes))
        step = self._block[self._moved_in_block : self._moved_in_block + STEP_BYTES]
        keys.add_words(step)
        self._moved_in_block += len(step)
        return self._moved_bytes + self._moved_in_block < self.size_bytes

    def _read(self, at: int) -> bytes:
        wanted = min(BLOCK_BYTES, self.size_bytes - at)
        try:
            words = os.pread(self._fd, wanted, at)
        except OSError as error:
            raise unusable(self.path, error) from error
        if len(words) != wanted:
            raise LedgerError(
                f"{self.path} is damaged: it is shorter than what was written",
                hint="remove the ledger's folder; a full resync then cannot tell the task's own keys",
            )
        return words

    def sync(self) -> None:
        """Have everything on the disk itself."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; nothing can be added any more."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._fd)
