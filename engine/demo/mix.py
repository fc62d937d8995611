"""The mixed write load of the writer, several databases wide.

Not idempotent on purpose (INCR, APPEND, RPUSH, pops): a command lost or applied twice shows in the
data.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from engine.demo import steps

if TYPE_CHECKING:
    import random

    from engine.demo.wire import Argument

Command = tuple["Argument", ...]

DATABASES = (0, 1, 2, 5, 9)
KNOWN_IDS = 32  # of each stream, for XACK, XCLAIM and XDEL
STEPS_CHOSEN = 4096
BINARY_EVERY = 8  # of the names, one in so many is not text
_KINDS = ("str", "num", "list", "set", "hash", "zset", "stream", "hll", "geo", "bits", "px", "pxh")


class Mix:
    """Makes the commands. Call `step` as often as wanted, then send and empty `commands`.

    db: the database the connection is in after `commands`. added: for each XADD, its index in
    `commands`, its database and key; give the id in its reply to `learn_id`. claims: XCLAIM and XAUTOCLAIM;
    from 7.0 on they drop a deleted entry from the pending list, older servers keep it, so a stream of an
    older source means something else to a newer target (t_stream.c, xclaimCommand).
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        keys: int,
        since_6_2: bool = True,
        claims: bool = True,
        functions: bool = False,
        field_ttls: bool = False,
        whole_databases: bool = False,
    ) -> None:
        self.commands: list[Command] = []
        self.added: list[tuple[int, int, bytes]] = []
        self.db = 0
        self._rng = rng
        self.random = rng.random
        self._noise = rng.randbytes(1 << 16)
        self.names = {
            kind: [
                b"w:%b:%d" % (kind.encode(), i)
                if i % BINARY_EVERY
                else b"w:%b:\x00\r\n\xfe%d" % (kind.encode(), i)
                for i in range(max(4, keys // 10) if kind == "stream" else keys)
            ]
            for kind in _KINDS
        }
        self._ids: dict[tuple[int, bytes], deque[bytes]] = {}
        self.loads = 0
        self.has_blocking_moves = since_6_2
        self.has_claims = claims
        weights = dict(steps.ALWAYS)
        for is_wanted, more in (
            (since_6_2, steps.SINCE_6_2),
            (functions, steps.FUNCTIONS),
            (field_ttls, steps.FIELD_TTLS),
            (whole_databases, steps.WHOLE_DATABASES),
        ):
            if is_wanted:
                weights.update(more)
        self._steps = rng.choices(list(weights), list(weights.values()), k=STEPS_CHOSEN)
        self._at = 0

    def step(self) -> None:
        """Append the commands of one step."""
        self._at = (self._at + 1) % STEPS_CHOSEN
        self._steps[self._at](self)

    def learn_id(self, db: int, key: bytes, entry: bytes) -> None:
        """Take the id that the server gave to an entry."""
        ids = self._ids.get((db, key))
        if ids is None:
            ids = self._ids[db, key] = deque(maxlen=KNOWN_IDS)
        ids.append(entry)

    # What the steps are built of.

    def put(self, *command: Argument) -> None:
        """Append a command."""
        self.commands.append(command)

    def below(self, limit: int) -> int:
        """Return a random number from 0 to limit - 1."""
        return int(self.random() * limit)

    def key(self, kind: str) -> bytes:
        """Return a random name of a kind."""
        names = self.names[kind]
        return names[int(self.random() * len(names))]

    def value(self, longest: int = 60) -> bytes:
        """Return 1 to `longest` random bytes."""
        at = self.below(60_000)
        return self._noise[at : at + 1 + self.below(longest)]

    def entry_id(self, key: bytes) -> bytes:
        """Return an id that the stream has or had; `0-1` if none is known here."""
        ids = self._ids.get((self.db, key))
        return ids[self.below(len(ids))] if ids else b"0-1"

    def other_db(self) -> int:
        """Return the number of another database."""
        others = [db for db in DATABASES if db != self.db]
        return others[self.below(len(others))]

    def select(self, db: int) -> None:
        """Go to a database, if the connection is not there already."""
        if db != self.db:
            self.put(b"SELECT", db)
            self.db = db
