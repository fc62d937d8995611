from typing import Protocol

from engine.codec.key_set import NameSink

class KeySets(Protocol):
    """Who keeps the sets of a recorder."""

    def sets_of(self, db: int) -> tuple[NameSink, NameSink | None]:
        """Where names of `db` go: what was brought, and what the snapshot being taken has."""

    def note_swap(self, first_db: int, second_db: int, offset: int) -> None:
        """SWAPDB was read; the target has it once it is at `offset`."""

    def note_flush(self, db: int | None, offset: int) -> None:
        """FLUSHDB, or FLUSHALL if `db` is None, was read; the target has it once it is at `offset`."""

class KeyRecorder:
    noted: int
    ignores_flushes: bool
    def __init__(self, owner: KeySets, seed: int) -> None: ...
    @property
    def db(self) -> int: ...
    def note_bytes(self, name: bytes) -> int: ...
    def drain(self) -> int: ...
    def select(self, db: int) -> int: ...
    def start_again(self) -> None: ...
    def note_swap(self, first_db: int, second_db: int, offset: int) -> None: ...
    def note_flush(self, db: int | None, offset: int) -> None: ...
