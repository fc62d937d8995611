"""Changes found by reading all keys again and again: what differs from the pass before, and what is no longer there.

Of every key a pass keeps two hashes of 64 bits (its name, its whole state) and, on disk, its name: only names that the
next pass does not meet are asked for, and only those that are gone are deleted.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine.codec.key_set import hash_name
from engine.ledger.set_file import SetFile
from engine.readers.changed_keys import Key, KeyFile
from engine.readers.scan_records import KeyState

# Expiries that were reckoned from a remaining time differ by moments from pass to pass.
EXPIRY_STEP_MS = 64


class PassMemory:
    """What one pass has met. directory: where its files lie."""

    def __init__(self, directory: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(
            dir=directory, prefix="pass-", ignore_cleanup_errors=True
        )
        folder = Path(self._folder.name)
        self._names = SetFile(folder / "names")
        self._states = SetFile(folder / "states")
        self._file = KeyFile(folder)

    @property
    def count(self) -> int:
        """Keys met."""
        return self._file.count

    def has_state(self, value: int) -> bool:
        """Whether a key was met in exactly this state."""
        return self._states.keys.contains(value)

    def has_name(self, value: int) -> bool:
        """Whether a key of this name was met."""
        return self._names.keys.contains(value)

    def note(self, db: int, name: bytes, name_hash: int, state_hash: int) -> bool:
        """One was met. False: not for the first time, then its state is left to the next pass."""
        if not self._names.keys.add(name_hash):
            return False
        self._file.add(db, name)
        self._states.keys.add(state_hash)
        return True

    def met(self) -> Iterator[Key]:
        """All that were met."""
        return self._file.keys()

    def close(self) -> None:
        """Drop it."""
        self._names.close()
        self._states.close()
        self._file.close()
        self._folder.cleanup()


class Passes:
    """Compares each pass with the one before. `begin` one, `changed` for all that it meets, then `missing`."""

    def __init__(self, directory: Path, *, is_exact: bool) -> None:
        self._directory = directory
        self._seed = secrets.randbits(64)
        self._step_ms = 1 if is_exact else EXPIRY_STEP_MS
        self._before: PassMemory | None = None
        self._now: PassMemory | None = None

    def begin(self) -> None:
        """A pass begins."""
        if self._before is not None:
            self._before.close()
        self._before, self._now = self._now, PassMemory(self._directory)

    def changed(self, db: int, states: list[KeyState]) -> list[KeyState]:
        """Those that are there and differ from the pass before; all are noted."""
        assert self._now is not None
        found = []
        for state in states:
            if state.payload is None:
                continue
            name_hash = hash_name(b"%d " % db + state.name, self._seed)
            text = b"%d %d %d " % (db, state.expires_ms // self._step_ms, len(state.name))
            state_hash = hash_name(text + state.name + state.payload, self._seed)
            is_new = self._now.note(db, state.name, name_hash, state_hash)
            if is_new and (self._before is None or not self._before.has_state(state_hash)):
                found.append(state)
        return found

    def missing(self) -> Iterator[Key]:
        """Keys of the pass before that this one has not met."""
        if self._before is None or self._now is None:
            return
        for db, name in self._before.met():
            if not self._now.has_name(hash_name(b"%d " % db + name, self._seed)):
                yield db, name

    def close(self) -> None:
        """Drop everything."""
        for memory in (self._before, self._now):
            if memory is not None:
                memory.close()
        self._before = self._now = None
