"""The names of the keys that a task has brought to its target.

A full resync in the middle of a task must remove what the source has deleted meanwhile, and nothing that
others wrote. So every name is recorded before the block that makes its key is sent: `brought` may name a key
that never arrived, and never lacks one that did. Kept as 64-bit hashes, some 11 to 21 bytes of disk each; those of a snapshot
8 bytes until they are asked for.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from engine.codec.key_recorder import KeyRecorder
from engine.codec.key_set import KeySet, NameSink, hash_name
from engine.errors import LedgerError
from engine.ledger.name_files import PATTERNS, NameFiles
from engine.ledger.register import Kind, Register
from engine.ledger.register_file import REGISTER_NAME, boot_id, new_id, owner_in, read_register

log = structlog.get_logger("engine.ledger")


class Ledger:
    """Open with `Ledger.open`. The process that opened a directory last owns it; an older one can't change it any more.

    recorder: what the transcoders note names with; None if there is no directory. directory: where the files
    are.
    """

    def __init__(self, directory: Path | None, register: Register) -> None:
        self.directory = directory
        self._register = register
        self._owner = secrets.token_hex(8)
        self._files = None if directory is None else NameFiles(directory, self._write_register)
        self._lists_names = False  # a snapshot is being taken: its names need not be found yet
        self._is_closed = False
        self.recorder = None if directory is None else KeyRecorder(self, register.seed)

    @classmethod
    def open(cls, directory: Path | None) -> Ledger:
        """The ledger in `directory`, a new one if there is none; an empty one without memory if it is None.

        What a crash of the whole machine may have torn is dropped; `is_trusted` tells.

        Raises:
            LedgerError: the directory or a file cannot be used.
        """
        if directory is None:
            return cls(None, Register(new_id(), is_complete=False))
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            ledger = cls(directory, read_register(directory))
            ledger._write_register(is_durable=True, is_takeover=True)
            ledger._opened.remove_strangers(ledger._register.all_files)
        except OSError as error:
            raise LedgerError(
                f"the list of the task's keys cannot be kept in {directory}: {error.strerror}",
                hint="give the process access there, or name another folder",
            ) from error
        return ledger

    @property
    def id(self) -> str:
        """16 hex digits. A checkpoint with another id belongs to another ledger."""
        return self._register.ledger_id

    @property
    def is_trusted(self) -> bool:
        """Whether every name brought under this id is known."""
        return self.directory is not None and self._register.is_complete

    @property
    def may_have_leftovers(self) -> bool:
        """Whether a snapshot is being taken that is not the first one."""
        return self._records_current

    @property
    def has_kept(self) -> bool:
        """Whether names are known that the target had before the task."""
        return bool(self._register.files[Kind.KEPT])

    @property
    def dbs(self) -> list[int]:
        """The databases that the task has brought keys to."""
        return self._register.dbs(Kind.BROUGHT)

    @property
    def seed(self) -> int:
        """Of the names' hashes, 64 bits."""
        return self._register.seed

    def brought_sets(self, db: int) -> list[KeySet]:
        """The names brought to `db`, newest file first."""
        return self._sets(Kind.BROUGHT, db)

    def brought_set(self, db: int) -> KeySet:
        """Where names brought to `db` go, outside of a snapshot."""
        return self._opened.newest_set(self._register, Kind.BROUGHT, db)

    def count(self, kind: Kind) -> int:
        """How many names of a kind there are, over all databases; a name in two files counts twice."""
        self._drain()
        return sum(it.count for db in self._register.dbs(kind) for it in self._sets(kind, db))

    # ---- recording

    def sets_of(self, db: int) -> tuple[NameSink, NameSink | None]:
        """Where names of `db` go; for the recorder."""
        files = self._opened
        newest = files.newest_log if self._lists_names else files.newest_set
        current = newest(self._register, Kind.CURRENT, db) if self._records_current else None
        return newest(self._register, Kind.BROUGHT, db), current

    def sort_some(self) -> bool:
        """Make some of the names that a snapshot has listed ready to be asked for; False: all are.

        Asking does it too, all at once. One call takes some ten milliseconds.

        Raises:
            LedgerError: there is no room for it.
        """
        self._drain()
        for kind in Kind:
            for db, name in self._register.logs(kind):
                self._move_some(kind, db, name)
                return True
        return False

    def _move_some(self, kind: Kind, db: int, name: str) -> bool:
        if self._opened.move_some(self._register, kind, db, name):
            return True
        assert self.recorder is not None
        self.recorder.start_again()
        return False

    def note_swap(self, first_db: int, second_db: int, offset: int) -> None:
        """SWAPDB was read from the stream; for the recorder."""
        self._register.swap(first_db, second_db, offset)
        self._write_register()

    def note_flush(self, db: int | None, offset: int) -> None:
        """FLUSHDB was read, or FLUSHALL where `db` is None; for the recorder."""
        before = len(self._register.events)
        self._register.flush(db, offset)
        if len(self._register.events) != before:
            self._write_register()

    def note_applied(self, offset: int) -> None:
        """The target has everything up to `offset`: what flushes put away before may go. Cheap, call it often."""
        if self.directory is not None and self._register.events:
            before = len(self._register.events)
            self._register.note_applied(offset)
            if len(self._register.events) != before:
                self._write_register()
                self._opened.remove_strangers(self._register.all_files)

    def resume_at(self, offset: int | None) -> None:
        """A line starts, and its target is at `offset` of the history that this ledger saw last.

        None where the checkpoint names none (phase snapshot, another replid) or is gone. SWAPDB and flushes that the target does not have are taken back. A snapshot that was cut is forgotten.
        """
        if self.directory is None:
            return
        self._drain()
        self._lists_names = False
        self._register.take_back(offset)
        self._register.drop(Kind.CURRENT)
        self._settle()

    def begin_snapshot(self, is_first: bool) -> None:
        """A snapshot is about to be sent. Names are recorded for it apart from those brought before.

        is_first: there was none before it for this task, so that nothing can be left over: then they are not
        recorded twice, unless a cut attempt did bring something.
        """
        if self.directory is None:
            return
        self._drain()
        self._register.drop(Kind.CURRENT)
        self._lists_names = True
        if not (is_first and self.is_trusted and not self._has_names(Kind.BROUGHT)):
            # Its file says that there are such names.
            self._opened.newest_log(self._register, Kind.CURRENT, 0)
        self._settle()

    def end_snapshot(self, offset: int) -> None:
        """The target has the snapshot, and what was left over is gone: its names are those brought.

        offset: where the stream behind the snapshot starts.
        """
        if self.directory is None:
            return
        self._drain()
        self._lists_names = False
        if self._records_current:
            self._register.replace_brought(offset)
            self._register.is_complete = True
        self._settle()

    def keep(self, db: int, keys: Iterable[bytes]) -> None:
        """The target had these before, and they stay as they are."""
        if self.directory is not None:
            kept = self._opened.newest_set(self._register, Kind.KEPT, db)
            for key in keys:
                kept.add(hash_name(key, self._register.seed))

    # ---- asking

    def leftovers(self, db: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that the task brought and that the snapshot does not have.

        None where nothing can be left over: in a first snapshot, and outside of one.
        """
        if not self._records_current:
            return []
        return self._select(db, keys, Kind.BROUGHT, (Kind.CURRENT, Kind.KEPT))

    def is_leftover(self, db: int, key: bytes) -> bool:
        """Whether the task brought the key and the snapshot does not have it."""
        return bool(self.leftovers(db, [key]))

    def brought(self, db: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that the task brought; none that the target had before."""
        return self._select(db, keys, Kind.BROUGHT, (Kind.KEPT,))

    def is_kept(self, db: int, key: bytes) -> bool:
        """Whether the target had the key before the task, and it was left alone."""
        return self.has_kept and not self._select(db, [key], None, (Kind.KEPT,))

    def unknown(self, db: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that the snapshot does not have: others wrote them, or an earlier run of the task did."""
        return self._select(db, keys, None, (Kind.CURRENT, Kind.KEPT))

    def _select(
        self, db: int, keys: Sequence[bytes], inside: Kind | None, outside: tuple[Kind, ...]
    ) -> list[bytes]:
        self._drain()
        seed = self._register.seed
        wanted = [] if inside is None else self._sets(inside, db)
        unwanted = [it for kind in outside for it in self._sets(kind, db)]
        selected = []
        for key in keys:
            value = hash_name(key, seed)
            if inside is not None and not any(it.contains(value) for it in wanted):
                continue
            if not any(it.contains(value) for it in unwanted):
                selected.append(key)
        return selected

    # ---- the whole

    def renew(self, *, is_complete: bool = True) -> None:
        """Forget everything, under a new id: nothing of the task is on the target.

        is_complete: False if there may be something that no list names.
        """
        if self.directory is None:
            return
        serial = self._register.serial
        self._lists_names = False
        self._register = Register(new_id(), serial=serial, is_complete=is_complete)
        self.recorder = KeyRecorder(self, self._register.seed)
        self._settle()

    def remove(self) -> None:
        """Delete the files: the task is over."""
        if self.directory is None or self._is_closed:
            return
        self._is_closed = True
        self._opened.close()
        for pattern in (*PATTERNS, REGISTER_NAME, "leftover-candidates.txt"):
            for path in self.directory.glob(pattern):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        with suppress(OSError):
            self.directory.rmdir()

    def sync(self) -> None:
        """Have everything on the disk itself."""
        if self._files is not None:
            self._files.sync()

    def close(self) -> None:
        """Have everything on the disk and close the files."""
        if self._is_closed:
            return
        self._is_closed = True
        if self.directory is not None:
            try:
                self._drain()
                self.sync()
                self._write_register(is_closed=True, is_durable=True)
            finally:
                self._opened.close()

    @property
    def _records_current(self) -> bool:
        return bool(self._register.files[Kind.CURRENT])

    def _drain(self) -> None:
        if self.recorder is not None:
            self.recorder.drain()

    def _settle(self) -> None:
        """After other files became the valid ones."""
        self._write_register()
        self._opened.remove_strangers(self._register.all_files)
        assert self.recorder is not None
        self.recorder.start_again()

    @property
    def _opened(self) -> NameFiles:
        assert self._files is not None, "there is no directory"
        return self._files

    def _has_names(self, kind: Kind) -> bool:
        return self._opened.has_names(self._register, kind)

    def _sets(self, kind: Kind, db: int) -> list[KeySet]:
        for name in [it for in_db, it in self._register.logs(kind) if in_db == db]:
            self._drain()
            while self._move_some(kind, db, name):
                pass
        return [] if self._files is None else self._files.sets(self._register, kind, db)

    def _write_register(
        self, *, is_closed: bool = False, is_durable: bool = False, is_takeover: bool = False
    ) -> None:
        """As `_replace_register`.

        Raises:
            LedgerError: it cannot be written, or another process owns the directory now.
        """
        try:
            self._replace_register(
                is_closed=is_closed, is_durable=is_durable, is_takeover=is_takeover
            )
        except OSError as error:
            raise LedgerError(
                f"the list of the task's keys cannot be kept in {self.directory}: {error.strerror}",
                hint="make room or give the process access there; the same command then goes on",
            ) from error

    def _replace_register(self, *, is_closed: bool, is_durable: bool, is_takeover: bool) -> None:
        """Replace the register's file.

        is_durable: on the disk itself. What says that the files are closed must be, and what takes that back;
        in between a crash of the machine ends the trust anyway.

        Raises:
            LedgerError: another process owns the directory now.
        """
        assert self.directory is not None
        content = self._register.to_json() | {
            "boot_id": boot_id(),
            "is_closed": is_closed,
            "owner": self._owner,
        }
        path = self.directory / REGISTER_NAME
        if not is_takeover and owner_in(path) not in {self._owner, ""}:
            raise LedgerError(
                f"another process keeps the list of the task's keys in {self.directory} now",
                hint="run one redis-ferry for a task",
            )
        new = path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(content, file)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        new.replace(path)
        if not is_durable:
            return
        folder = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
