"""The files of a ledger while it is open: sets, which can be asked, and lists, which can only be added to.

While a snapshot is taken names go into lists (log_file.py). Before anybody asks for names of a kind and database, the lists of
these are moved into a set beside them, in steps; until that is done the register names both, and a step done twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine.codec.key_log import KeyLog
from engine.codec.key_set import KeySet
from engine.ledger.log_file import LogFile
from engine.ledger.register import LOG_SUFFIX, SET_SUFFIX, Kind, Register
from engine.ledger.set_file import SetFile

PATTERNS = (f"*-*-*{SET_SUFFIX}", f"*-*-*{LOG_SUFFIX}")


class NameFiles:
    """directory: where they lie. write_register: called when the register has changed."""

    def __init__(self, directory: Path, write_register: Callable[[], None]) -> None:
        self._directory = directory
        self._write_register = write_register
        self._sets: dict[str, SetFile] = {}
        self._logs: dict[str, LogFile] = {}

    def newest_set(self, register: Register, kind: Kind, db: int) -> KeySet:
        """The set for new names; made where there is none.

        Raises (as all here):
            LedgerError: a file cannot be used.
        """
        return self._newest_set_file(register, kind, db).keys

    def _newest_set_file(self, register: Register, kind: Kind, db: int) -> SetFile:
        name = register.newest(kind, db, SET_SUFFIX)
        if name is not None:
            return self._set(name)
        name = register.make_file(kind, db, SET_SUFFIX)
        self._remove_file(name)
        file = self._set(name)
        self._write_register()  # the file is whole now, and no name is in it yet
        return file

    def newest_log(self, register: Register, kind: Kind, db: int) -> KeyLog:
        """The list for new names; made where there is none."""
        name = register.newest(kind, db, LOG_SUFFIX)
        if name is not None:
            return self._log(name).names
        name = register.make_file(kind, db, LOG_SUFFIX)
        self._remove_file(name)
        log = self._log(name)
        self._write_register()
        return log.names

    def sets(self, register: Register, kind: Kind, db: int) -> list[KeySet]:
        """All names of a kind in a database, newest first. No list may be left."""
        return [self._set(name).keys for name in register.names(kind, db)]

    def has_names(self, register: Register, kind: Kind) -> bool:
        """Whether there is a name of this kind in any database."""
        names = [name for db in register.dbs(kind) for name in register.names(kind, db)]
        return any(
            self._log(it).count if it.endswith(LOG_SUFFIX) else self._set(it).keys.count
            for it in names
        )

    def move_some(self, register: Register, kind: Kind, db: int, name: str) -> bool:
        """Move some names of a list into a set; whether more of them are left. The file goes with the last."""
        log, file = self._log(name), self._newest_set_file(register, kind, db)
        has_more = log.move_some(file.keys)
        file.let_go()
        if has_more:
            return True
        register.forget(kind, db, name)
        self._write_register()
        self._logs.pop(name).close()
        self._remove_file(name)
        return False

    def _set(self, name: str) -> SetFile:
        file = self._sets.get(name)
        if file is None:
            file = self._sets[name] = SetFile(self._directory / name)
        return file

    def _log(self, name: str) -> LogFile:
        log = self._logs.get(name)
        if log is None:
            log = self._logs[name] = LogFile(self._directory / name)
        return log

    def remove_strangers(self, named: set[str]) -> None:
        """Delete the files that the register does not name any more."""
        for name in [it for it in self._sets if it not in named]:
            self._sets.pop(name).close()
        for name in [it for it in self._logs if it not in named]:
            self._logs.pop(name).close()
        for pattern in PATTERNS:
            for path in self._directory.glob(pattern):
                if path.name not in named:
                    self._remove_file(path.name)

    def _remove_file(self, name: str) -> None:
        with suppress(OSError):  # it is looked for again
            (self._directory / name).unlink(missing_ok=True)

    @property
    def _open_files(self) -> list[SetFile | LogFile]:
        return [*self._sets.values(), *self._logs.values()]

    def sync(self) -> None:
        """Have everything on the disk itself."""
        for file in self._open_files:
            file.sync()

    def close(self) -> None:
        """Close the files."""
        for file in self._open_files:
            file.close()
        self._sets.clear()
        self._logs.clear()
