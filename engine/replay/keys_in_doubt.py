"""Keys of a cluster target whose value the stream does not tell, until it has come from the source.

From the command on that makes a key so, everything that writes to it is left out. Its mark, a field of its slot's
checkpoint, is written and removed in the transactions of the slot: a crash, a failover or a moved slot leaves key and mark
as they belong together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from engine.checkpoint.slot_checkpoints import MARK
from engine.codec.command_text import encode
from engine.codec.slot_router import SlotRouter
from engine.codec.slots import SLOTS, key_slot
from engine.errors import TargetRejected
from engine.stats import LineStats

MOST_IN_DOUBT = 200_000


class KeysInDoubt:
    """The keys, and what the router must know of them.

    found: those marked on the target when the stay began. refused: why the source cannot be asked for values, empty if it can be.
    """

    def __init__(self, router: SlotRouter, stats: LineStats, found: Iterable[bytes] = ()) -> None:
        self._router = router
        self._stats = stats
        self._waiting: dict[bytes, None] = {}  # nobody has been asked about them; oldest first
        self._asked: set[bytes] = set()
        self._by_slot: Counter[int] = Counter()
        self._tainted = bytearray(SLOTS)
        self.refused = ""
        for key in found:
            self._note(key)
        self._show()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._asked)

    def __contains__(self, key: bytes) -> bool:
        return key in self._waiting or key in self._asked

    @property
    def has_waiting(self) -> bool:
        """Whether there are some that the source is still to be asked about."""
        return bool(self._waiting)

    def add(self, key: bytes, offset: int) -> None:
        """Its value is not known behind `offset`, the end of the block.

        Raises:
            TargetRejected: there are too many.
        """
        if key in self:
            return
        if len(self) >= MOST_IN_DOUBT:
            raise TargetRejected(
                f"the values of {MOST_IN_DOUBT:,} keys, written by commands over several slots, have not come from the source: "
                "no more can be held",
                command="",
                key=key,
                reply="CROSSSLOT",
                offset=offset,
                hint="let the line catch up at a quiet hour, give such keys a common hash tag at the source, or migrate to a "
                "standalone server",
            )
        self._note(key)
        slot = key_slot(key)
        mark = encode("HSET", self._router.checkpoint_key(slot), MARK + key, max(offset, 0))
        self._router.put(slot, mark)
        self._show()

    def resolve(self, key: bytes, command: bytes) -> None:
        """Put the command behind which the key is as it should be."""
        slot = key_slot(key)
        self._router.put(slot, command)
        self._drop(key, slot)
        self._show()

    def take(self, limit: int) -> list[bytes]:
        """Some of those waiting, to be asked about."""
        taken = [key for key, _ in zip(self._waiting, range(limit), strict=False)]
        for key in taken:
            del self._waiting[key]
        self._asked.update(taken)
        return taken

    def put_back(self, keys: Iterable[bytes]) -> None:
        """Nobody could tell about them, or not for good."""
        for key in keys:
            if key in self._asked:
                self._asked.remove(key)
                self._waiting[key] = None

    def clear(self) -> None:
        """A snapshot begins: it brings all keys."""
        for key in (*self._waiting, *self._asked):
            self._drop(key, key_slot(key))
        self._show()

    def _note(self, key: bytes) -> None:
        self._waiting[key] = None
        slot = key_slot(key)
        self._by_slot[slot] += 1
        self._tainted[slot] = 1

    def _drop(self, key: bytes, slot: int) -> None:
        self._router.put(slot, encode("HDEL", self._router.checkpoint_key(slot), MARK + key))
        self._waiting.pop(key, None)
        self._asked.discard(key)
        self._by_slot[slot] -= 1
        if not self._by_slot[slot]:
            del self._by_slot[slot]
            self._tainted[slot] = 0

    def _show(self) -> None:
        self._router.tainted = self._tainted if self._by_slot else None
        self._stats.keys_in_doubt = len(self)
