"""Which keys, databases and commands a task takes along, and under which name and number they go. Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SHOWN_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Everything is taken as it is, unless a field says otherwise.

    include_keys, exclude_keys: globs as the servers have them (codec/key_filter.py), of names at the source; a key goes
    if it fits one of the first, or there are none, and none of the second. databases: of the source; None: all.
    db_map: (database of the source, that of the target); others keep their number. exclude_commands: names in upper
    case, of the stream. prefix_strip, prefix_add: a name loses the one, which all selected ones must have, then gets the
    other.
    """

    include_keys: tuple[bytes, ...] = ()
    exclude_keys: tuple[bytes, ...] = ()
    databases: frozenset[int] | None = None
    db_map: tuple[tuple[int, int], ...] = ()
    exclude_commands: frozenset[str] = frozenset()
    prefix_add: bytes = b""
    prefix_strip: bytes = b""

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out or renamed."""
        return self == EVERYTHING

    @property
    def is_about_keys(self) -> bool:
        """Whether the name of a key matters."""
        return bool(self.include_keys or self.exclude_keys or self.prefix_add or self.prefix_strip)

    @property
    def is_about_data(self) -> bool:
        """Whether keys or databases are left out or renamed, and not only commands left out."""
        return self.is_about_keys or self.databases is not None or bool(self.db_map)

    def target_db(self, db: int) -> int | None:
        """The database of the target for one of the source; None: it is left out."""
        if self.databases is not None and db not in self.databases:
            return None
        return dict(self.db_map).get(db, db)

    def source_dbs(self, db: int) -> list[int]:
        """The databases of the source that go to one of the target."""
        found = {source for source, target in self.db_map if target == db}
        if db not in dict(self.db_map):
            found.add(db)
        return sorted(it for it in found if self.target_db(it) == db)

    def target_name(self, name: bytes) -> bytes:
        """What a selected key is called at the target."""
        return self.prefix_add + name[len(self.prefix_strip) :]

    def source_name(self, name: bytes) -> bytes | None:
        """What a key of the target is called at the source; None: no key of the source gets this name."""
        if not name.startswith(self.prefix_add):
            return None
        return self.prefix_strip + name[len(self.prefix_add) :]

    @property
    def folds(self) -> bool:
        """Whether several databases of the source may go to one of the target."""
        if self.databases is not None:
            targets = [self.target_db(db) for db in self.databases]
            return len(set(targets)) < len(targets)
        return any(len(self.source_dbs(target)) > 1 for _, target in self.db_map)

    def fold_of(self, dbs: Iterable[int]) -> dict[int, list[int]]:
        """Of these databases of the source those that share one of the target: {target: sources}."""
        found: dict[int, list[int]] = {}
        for db in sorted(dbs):
            target = self.target_db(db)
            if target is not None:
                found.setdefault(target, []).append(db)
        return {target: sources for target, sources in found.items() if len(sources) > 1}

    def mapped(self, keys: Mapping[int, int]) -> dict[int, int]:
        """Numbers by database of the source, by that of the target."""
        found: dict[int, int] = {}
        for db, number in keys.items():
            target = self.target_db(db)
            if target is not None:
                found[target] = found.get(target, 0) + number
        return found

    @property
    def text(self) -> str:
        """The options that make it, always in one order; a digest where that would be long. Empty for everything."""
        words: list[str] = []
        for option, globs in (
            ("--include-key", self.include_keys),
            ("--exclude-key", self.exclude_keys),
        ):
            for it in sorted(set(globs)):
                words += [option, _shown(it)]
        if self.databases is not None:
            words += ["--databases", ",".join(map(str, sorted(self.databases)))]
        if self.db_map:
            words += ["--db-map", ",".join(f"{a}:{b}" for a, b in sorted(self.db_map))]
        for name in sorted(self.exclude_commands):
            words += ["--exclude-command", name]
        for option, prefix in (
            ("--key-prefix-strip", self.prefix_strip),
            ("--key-prefix-add", self.prefix_add),
        ):
            if prefix:
                words += [option, _shown(prefix)]
        whole = shlex.join(words)
        if len(whole) <= SHOWN_CHARACTERS:
            return whole
        digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
        return f"{whole[: SHOWN_CHARACTERS - 50]}… (sha256 {digest})"


_SPECIAL = frozenset(b"*?[\\")


def literal_of(glob: bytes) -> tuple[bytes, bool] | None:
    """(the name or its beginning that a glob means, whether anything may follow); None where it says more."""
    text = bytearray()
    at = 0
    while at < len(glob):
        letter = glob[at]
        if letter == 42 and not glob[at:].strip(b"*"):
            # Several stars at the end are as one, but for the empty name, which only a lone one fits.
            return (bytes(text), True) if text or len(glob) == 1 else None
        if letter == 92 and at + 1 < len(glob):
            at += 1
            letter = glob[at]
        elif letter in _SPECIAL and letter != 92:
            return None
        text.append(letter)
        at += 1
    return bytes(text), False


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


EVERYTHING = Selection()
