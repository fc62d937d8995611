"""Which file holds which names, and what changed that lately: pure. The ledger writes it down after each change.

SWAPDB and the flushes are noted when they are read, before the target has them. So each is kept with its
offset, to be taken back should the target turn out not to have it (a crash, a target restored from an older
state): databases are exchanged again, names that a flush put away are brought back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

FORMAT = 1
SET_SUFFIX = ".set"
LOG_SUFFIX = ".log"  # names that are not in a set yet
KEPT_EVENTS = 1000
FALL_BACK_BYTES = 1024 * 1024 * 1024


class Kind(StrEnum):
    """What a set holds names of.

    BROUGHT: what may be on the target through the task. CURRENT: what the snapshot being taken has.
    KEPT: what the target had before the task and the task left alone.
    """

    BROUGHT = "brought"
    CURRENT = "current"
    KEPT = "kept"


Files = dict[int, list[str]]  # by database, newest first: names go into the first one


@dataclass(frozen=True, slots=True)
class Swap:
    """SWAPDB, on the target once it is at `offset`."""

    offset: int
    first_db: int
    second_db: int


@dataclass(frozen=True, slots=True)
class Flush:
    """FLUSHDB of `db`, on the target once it is at `offset`. files: what it put away, by kind.

    A snapshot that replaced what was brought before is one of these too.
    """

    offset: int
    db: int
    files: dict[Kind, list[str]]


Event = Swap | Flush


@dataclass(slots=True)
class Register:
    """The files of a ledger. Every change leaves a register that is true by itself.

    serial: of the newest file. is_complete: nothing that was recorded under this id has been lost.
    events: oldest first, offsets do not fall.
    """

    ledger_id: str
    serial: int = 0
    is_complete: bool = True
    files: dict[Kind, Files] = field(default_factory=lambda: {kind: {} for kind in Kind})
    events: list[Event] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Of the names' hashes: 64 bits."""
        return int(self.ledger_id, 16)

    @property
    def all_files(self) -> set[str]:
        """Every file that is still of use."""
        named = {
            name for of_kind in self.files.values() for names in of_kind.values() for name in names
        }
        for event in self.events:
            if isinstance(event, Flush):
                named.update(name for names in event.files.values() for name in names)
        return named

    def names(self, kind: Kind, db: int) -> list[str]:
        """The files with names of `kind` in `db`, newest first."""
        return self.files[kind].get(db, [])

    def dbs(self, kind: Kind) -> list[int]:
        """The databases that have names of `kind`."""
        return sorted(db for db, names in self.files[kind].items() if names)

    def newest(self, kind: Kind, db: int, suffix: str) -> str | None:
        """The newest file with names of `kind` in `db` that ends so."""
        return next((it for it in self.names(kind, db) if it.endswith(suffix)), None)

    def logs(self, kind: Kind) -> list[tuple[int, str]]:
        """The lists of names of `kind`, each with its database."""
        return [
            (db, name)
            for db, names in self.files[kind].items()
            for name in names
            if name.endswith(LOG_SUFFIX)
        ]

    def forget(self, kind: Kind, db: int, name: str) -> None:
        """The names of this file are in another one of the same kind and database now."""
        self.files[kind][db].remove(name)

    def make_file(self, kind: Kind, db: int, suffix: str = SET_SUFFIX) -> str:
        """A new file for names of `kind` in `db`, before those there are."""
        self.serial += 1
        name = f"{kind}-{db}-{self.serial}{suffix}"
        self.files[kind].setdefault(db, []).insert(0, name)
        return name

    def drop(self, kind: Kind) -> None:
        """Forget all names of `kind`."""
        self.files[kind] = {}

    def replace_brought(self, offset: int) -> None:
        """What the snapshot of the stream's `offset` has is from now on all that was brought.

        Names brought before are put away as by a flush: the target may fall back behind the snapshot.
        """
        before = self.files[Kind.BROUGHT]
        self.files[Kind.BROUGHT] = self.files[Kind.CURRENT]
        self.files[Kind.CURRENT] = {}
        self.events = [
            Flush(offset, db, {Kind.BROUGHT: names})
            for db, names in sorted(before.items())
            if names
        ]

    def swap(self, first_db: int, second_db: int, offset: int) -> None:
        """SWAPDB was read."""
        self._exchange(first_db, second_db)
        self.events.append(Swap(offset, first_db, second_db))
        del self.events[:-KEPT_EVENTS]

    def _exchange(self, first_db: int, second_db: int) -> None:
        for of_kind in self.files.values():
            first, second = of_kind.pop(first_db, []), of_kind.pop(second_db, [])
            of_kind[first_db], of_kind[second_db] = second, first

    def flush(self, db: int | None, offset: int) -> None:
        """FLUSHDB was read, or FLUSHALL if `db` is None."""
        away = (Kind.BROUGHT, Kind.KEPT)
        every = {it for kind in away for it in self.files[kind]}
        for one in sorted(every) if db is None else [db]:
            files = {kind: names for kind in away if (names := self.files[kind].pop(one, []))}
            if files:
                self.events.append(Flush(offset, one, files))

    def note_applied(self, offset: int) -> None:
        """Let go what flushes put away, but for the last one of each database for FALL_BACK_BYTES of stream.

        That one stays: a target that loses its last seconds may take it back.
        """
        seen: set[int] = set()
        left: list[Event] = []
        for event in reversed(self.events):
            if isinstance(event, Flush) and event.offset <= offset:
                if event.db in seen or event.offset < offset - FALL_BACK_BYTES:
                    continue
                seen.add(event.db)
            left.append(event)
        self.events = left[::-1]

    def take_back(self, offset: int | None) -> None:
        """The target is at `offset`: undo what it does not have.

        None: nobody knows where it is. Then names come back that flushes put away, and swaps stand.
        """
        swaps: list[Swap] = []
        while self.events and (offset is None or self.events[-1].offset > offset):
            event = self.events.pop()
            if isinstance(event, Swap):
                self._exchange(event.first_db, event.second_db)
                swaps.append(event)
            else:
                for kind, names in event.files.items():
                    self.files[kind].setdefault(event.db, []).extend(names)
        if offset is None:
            for swap in reversed(swaps):
                self._exchange(swap.first_db, swap.second_db)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "format": FORMAT,
            "id": self.ledger_id,
            "serial": self.serial,
            "is_complete": self.is_complete,
            "files": {
                kind: {str(db): names for db, names in of_kind.items() if names}
                for kind, of_kind in self.files.items()
            },
            "events": [
                {"offset": it.offset, "swap": [it.first_db, it.second_db]}
                if isinstance(it, Swap)
                else {"offset": it.offset, "flush": it.db, "files": it.files}
                for it in self.events
            ],
        }


def from_json(text: str) -> tuple[Register, dict[str, Any]]:
    """Read a register; and the whole of what was read.

    Raises:
        ValueError: it is none, or one of another format.
    """
    try:
        read = json.loads(text)
        if read["format"] != FORMAT:
            raise ValueError(f"format {read['format']} is not known here")
        register = Register(read["id"], read["serial"], bool(read["is_complete"]))
        register.seed  # noqa: B018 - an id that is no number is found here
        for kind in Kind:
            register.files[kind] = {
                int(db): list(names) for db, names in read["files"].get(kind, {}).items()
            }
        for event in read["events"]:
            if "swap" in event:
                register.events.append(Swap(event["offset"], *event["swap"]))
            else:
                files = {Kind(kind): list(names) for kind, names in event["files"].items()}
                register.events.append(Flush(event["offset"], event["flush"], files))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a ledger: {error!r}") from error
    return register, read
