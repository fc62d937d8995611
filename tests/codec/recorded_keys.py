"""What a recorder was told, by name: an owner of sets in memory that can be asked for names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.codec.key_recorder import KeyRecorder
from engine.codec.key_set import KeySet, hash_name
from engine.codec.stream import StreamTranscoder
from tests.codec.key_set_memory import Memory
from tests.codec.stream_blocks import RECEIVED_MS, make_plan, wire

SEED = 0x5EED


class Recorded:
    """Sets by database. events: what the recorder passed on, with what was recorded until then."""

    def __init__(
        self,
        make_set: Any = KeySet,
        make_recorder: Any = KeyRecorder,
        *,
        with_current: bool = False,
    ) -> None:
        self.make_set = make_set
        self.sets: dict[int, tuple[KeySet, KeySet | None]] = {}
        self.with_current = with_current
        self.events: list[tuple[Any, ...]] = []
        self.recorder = make_recorder(self, SEED)

    def sets_of(self, db: int) -> tuple[KeySet, KeySet | None]:
        if db not in self.sets:
            current = self.make_set(Memory()) if self.with_current else None
            self.sets[db] = self.make_set(Memory()), current
        return self.sets[db]

    def note_swap(self, first_db: int, second_db: int, offset: int) -> None:
        self.events.append(("swap", first_db, second_db, offset, self.counts()))

    def note_flush(self, db: int | None, offset: int) -> None:
        self.events.append(("flush", db, offset, self.counts()))

    def counts(self) -> dict[int, int]:
        return {db: brought.count for db, (brought, _) in self.sets.items() if brought.count}

    def has(self, name: bytes, db: int = 0) -> bool:
        return db in self.sets and self.sets[db][0].contains(hash_name(name, SEED))

    def has_anywhere(self, name: bytes) -> bool:
        return any(self.has(name, db) for db in self.sets)

    def is_exactly(self, expected: dict[int, Iterable[bytes]]) -> bool:
        """Whether these names were recorded, by database, and no others."""
        wanted = {db: set(names) for db, names in expected.items()}
        return self.counts() == {db: len(names) for db, names in wanted.items() if names} and all(
            self.has(name, db) for db, names in wanted.items() for name in names
        )


def record(
    *commands: Sequence[bytes | str | int], db: int = 0, chunk_bytes: int = 1 << 30
) -> Recorded:
    """Send commands through the stream transcoder, in chunks."""
    recorded = Recorded()
    transcoder = StreamTranscoder(make_plan(db=db))
    transcoder.recorder = recorded.recorder
    data = wire(*commands)
    for at in range(0, len(data), chunk_bytes):
        transcoder.feed(data[at : at + chunk_bytes], RECEIVED_MS, False)
        while transcoder.next_block(False) is not None:
            pass
    while transcoder.next_block(True) is not None:
        pass
    return recorded
