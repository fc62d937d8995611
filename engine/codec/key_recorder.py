"""Brings the names of keys, as the transcoders meet them, into the key sets of their database.

Names wait in a small batch, so that the sets' memory can be fetched ahead; `drain` must be called before the
bytes that make those keys leave for the target. There is no cache of hot names: their slots are in the
processor's own.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.key_set import hash_bytes

if not cython.compiled:
    BATCH = 512


@cython.final
@cython.cclass
class KeyRecorder:
    """owner: what keeps the sets; see KeySets in key_recorder.pyi. seed: of the names' hashes, 64 bits.

    noted: names met so far, each time one is met. ignores_flushes: names stay noted although the source flushes them.
    """

    def __init__(self, owner, seed) -> None:
        self.owner = owner
        self.seed = seed
        self.noted = 0
        self.ignores_flushes = False
        self.db = 0
        self.brought = None
        self.current = None
        self.has_sets = False
        self.pending_count = 0
        if not cython.compiled:
            self.pending = [0] * BATCH

    def note(self, data, start, count):
        """Record the name of `count` bytes of `data` from `start` in the selected database."""
        if self.pending_count == BATCH:
            self.drain()
        self.noted += 1
        self.pending[self.pending_count] = hash_bytes(data, start, count, self.seed)
        self.pending_count += 1
        return 0

    def note_bytes(self, name):
        """Record one name (bytes)."""
        if cython.compiled:
            pointer: cython.p_uchar = name
            return self.note(pointer, 0, len(name))
        return self.note(name, 0, len(name))

    def drain(self):
        """Have every name noted so far in the sets. On an error they stay noted, for another try."""
        count: cython.int = self.pending_count
        if count == 0:
            return 0
        if not self.has_sets:
            self.brought, self.current = self.owner.sets_of(self.db)
            self.has_sets = True
        self.brought.add_batch(self.pending, count)
        if self.current is not None:
            self.current.add_batch(self.pending, count)
        self.pending_count = 0
        return 0

    def select(self, db):
        """What is noted from now on is in database `db`."""
        if db != self.db:
            self.drain()
            self.db = db
            self.has_sets = False
        return 0

    def start_again(self):
        """The owner's sets are others now: ask for them again."""
        self.drain()
        self.has_sets = False
        self.brought = None
        self.current = None

    def note_swap(self, first_db, second_db, offset):
        """SWAPDB, applied once the target is at `offset`."""
        self.drain()
        self.owner.note_swap(first_db, second_db, offset)
        self.start_again()

    def note_flush(self, db, offset):
        """FLUSHDB of `db`, FLUSHALL where it is None, applied once the target is at `offset`."""
        if self.ignores_flushes:
            return
        self.drain()
        self.owner.note_flush(db, offset)
        self.start_again()
