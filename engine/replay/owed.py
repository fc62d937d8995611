"""The expiries that stand on the target and are still to be put right. They outlive a stay at the target, and the process."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger("engine.replay")

Key = tuple[int, bytes]  # database, name
FILE_NAME = "owed-expiries.jsonl"
MOST_HELD = 200_000  # of the names in memory


@dataclass(slots=True)
class OwedExpiries:
    """What is known of them.

    keys: their expiry is owed; wholes: value and expiry are. scans_keys, scans_hashes: there are more, to be looked for
    on the target. reads_file: more wholes stand in the file than are held here. is_exact: some were true when the line fell behind, so keys may have expired on the target since,
    before their renewal came.
    """

    keys: set[Key] = field(default_factory=set)
    wholes: set[Key] = field(default_factory=set)
    scans_keys: bool = False
    scans_hashes: bool = False
    reads_file: bool = False
    is_exact: bool = True

    def __bool__(self) -> bool:
        return bool(
            self.keys or self.wholes or self.scans_keys or self.scans_hashes or self.reads_file
        )


class OwedFile:
    """The names, on disk before the block is sent that makes them owed; for the run after a crash.

    directory: None keeps nothing. is_empty: nothing is noted there. is_kept: all that was noted is there.
    """

    def __init__(self, directory: Path | None, line: str = "0") -> None:
        self.is_empty = True
        name = FILE_NAME if line == "0" else f"{Path(FILE_NAME).stem}-{line}.jsonl"
        self._path = None if directory is None else directory / name
        self._failed = False
        # Ends a line that the run before may have torn.
        self._before = "\n"

    @property
    def is_kept(self) -> bool:
        """Whether what is noted can be read again."""
        return self._path is not None and not self._failed

    def load(self) -> OwedExpiries:
        """What an earlier run left; a torn last line is passed over."""
        owed = OwedExpiries()
        if self._path is None:
            return owed
        for is_whole, key in self._notes():
            self.is_empty = False
            if len(owed.keys) + len(owed.wholes) >= MOST_HELD:
                owed.reads_file = True
                owed.scans_keys = True
                break
            (owed.wholes if is_whole else owed.keys).add(key)
        return owed

    def wholes(self) -> Iterator[Key]:
        """Every key that was noted as a whole, oldest first; some come again, also those that were put right."""
        return (key for is_whole, key in self._notes() if is_whole)

    def _notes(self) -> Iterator[tuple[bool, Key]]:
        assert self._path is not None
        with suppress(OSError), self._path.open("rb") as file:
            for line in file:
                with suppress(ValueError, TypeError):
                    is_whole, db, key = json.loads(line)
                    yield bool(is_whole), (int(db), base64.b64decode(key))

    def add(self, noted: Iterable[tuple[bool, int, bytes]]) -> None:
        """Append; a disk that takes no more is said once and otherwise only matters after a crash."""
        if self._path is None or self._failed:
            return
        lines = [
            f'[{"true" if is_whole else "false"}, {db}, "{binascii.b2a_base64(key, newline=False).decode()}"]\n'
            for is_whole, db, key in noted
        ]
        try:
            if self.is_empty:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._path.open("a", encoding="ascii") as file:
                file.write(self._before + "".join(lines))
            self._before = ""
            self.is_empty = False
        except OSError as error:
            self._failed = True
            log.warning("expiry.not_noted", file=str(self._path), error=error.strerror)

    def clear(self) -> None:
        """Everything is true now."""
        self.is_empty = True
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
