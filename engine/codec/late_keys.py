"""What the stream puts off while the target is behind: expiries with a margin, and the keys whose expiry is then owed.

Why there is a margin stands in engine/replay/margin.py; how what is owed is put right in engine/replay/settling.py.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.block_writer import BlockWriter

MAX_LATE_KEYS = 200_000
MOST_DIGITS = 18  # of a moment or duration that is looked at; more is beyond every clock
MOST_SECONDS = 9 * 10**15  # as many ms fit into 64 bits


def swapped_places(places, renumbered):
    return {(renumbered.get(db, db), key) for db, key in places}


@cython.cclass
class LateKeys(BlockWriter):
    """Gives moments their margin and notes for which keys.

    margin_ms, horizon_ms: expiries before the moment `horizon_ms` are applied so much later (0: as they are).
    late_keys, late_hashes: (db, key) whose expiry, or that of whose fields, is to be put right: it has a margin, or
    its relative time came in bytes fed as late, so that the moment it counts from is not known. Where such keys
    move is followed; with is_settling, where any key moves. late_keys_lost, late_hashes_lost: how many found no room;
    the latter are in `noted` all the same.
    verifies_keys: with a margin, a key may have expired on the target before its renewal came, so one that is
    renewed, or whose fields are, is noted in late_hashes, to be fetched as a whole; and so is what is made of others.
    noted: what was added to late_keys (False) and late_hashes (True) since it was last emptied: (is_whole, db, key).
    """

    def __init__(self, plan) -> None:
        BlockWriter.__init__(self, plan)
        self.margin_ms = self.horizon_ms = 0
        self.has_margin = False
        self.clock_offset_ms = plan.clock_offset_ms
        self.received_ms = 0
        self.late_keys = set()
        self.late_hashes = set()
        self.taken_keys = set()
        self.taken_hashes = set()
        self.taken_swapped = False
        self.has_late_keys = self.is_settling = self.verifies_keys = False
        self.noted = []
        self.late_keys_lost = self.late_hashes_lost = 0

    @property
    def verifies(self):
        """Whether keys that are renewed now are noted as a whole."""
        return self.verifies_keys and self.margin_ms > 0

    def add_late_keys(self, keys, hashes):
        """Owe these a correction as well: a stay at the target before this one could not make it."""
        self.late_keys.update(keys)
        self.late_hashes.update(hashes)
        if self.late_keys or self.late_hashes:
            self.has_late_keys = True

    def take_late(self, keys_limit, hashes_limit):
        """Take some of what is owed: (keys, hashes). Where they move is followed until `release_late_keys`."""
        keys = []
        hashes = []
        while self.late_keys and len(keys) < keys_limit:
            keys.append(self.late_keys.pop())
        while self.late_hashes and len(hashes) < hashes_limit:
            hashes.append(self.late_hashes.pop())
        self.taken_keys = set(keys)
        self.taken_hashes = set(hashes)
        return keys, hashes

    def release_late_keys(self):
        """Those taken are corrected, where they stood when they were taken: one that SWAPDB moved since is owed again."""
        if self.taken_swapped:
            self.late_keys |= self.taken_keys
            self.late_hashes |= self.taken_hashes
            self.taken_swapped = False
        self.taken_keys = set()
        self.taken_hashes = set()
        self.has_late_keys = bool(self.late_keys) or bool(self.late_hashes)

    def note_late_key(self, db, key):
        self.note_late(False, db, key)

    def note_late_hash(self, db, key):
        self.note_late(True, db, key)

    def note_late(self, is_whole, db, key):
        late = self.late_hashes if is_whole else self.late_keys
        place = (db, key)
        if place in late:
            return
        if len(late) < MAX_LATE_KEYS:
            late.add(place)
            self.noted.append((is_whole, db, key))
            self.has_late_keys = True
        elif is_whole:
            self.late_hashes_lost += 1
            self.noted.append((is_whole, db, key))
        else:
            self.late_keys_lost += 1

    def follow_late_key(self, name):
        """A key takes its TTL along: RENAME, RENAMENX, COPY … [DB n], MOVE key n."""
        db = self.db
        origin = self.argument(1)
        key = self.argument(2)
        if name == b"MOVE":
            db = int(key) if key.isdigit() else db
            key = origin
        elif name == b"COPY" and self.argument(3).upper() == b"DB" and self.argument(4).isdigit():
            db = int(self.argument(4))
        self.note_late_key(db, key)
        place = (self.db, origin)
        if (
            self.is_settling
            or self.verifies
            or place in self.late_hashes
            or place in self.taken_hashes
        ):
            self.note_late_hash(db, key)

    def swap_late_keys(self, first_db, second_db):
        """SWAPDB: what is owed stands in the other database now."""
        if not self.has_late_keys:
            return
        renumbered = {first_db: second_db, second_db: first_db}
        self.late_keys = swapped_places(self.late_keys, renumbered)
        self.late_hashes = swapped_places(self.late_hashes, renumbered)
        self.taken_keys = swapped_places(self.taken_keys, renumbered)
        self.taken_hashes = swapped_places(self.taken_hashes, renumbered)
        self.taken_swapped = True

    def moment_after(self, text, is_seconds):
        """Text of the moment so long after the receipt, in ms of the source's clock; None if `text` is no number."""
        duration = number_in(text)
        if duration is None:
            return None
        return b"%d" % self.later_after(duration * 1000 if is_seconds else duration)

    def later_moment(self, text, is_seconds):
        """Text of the moment with its margin, ms; None if it is to stay as it is."""
        moment = number_in(text)
        if moment is None:
            return None
        if is_seconds:
            moment *= 1000
        margin = self.margin_of(moment)
        return b"%d" % (moment + margin) if margin else None

    def moment_at(self, index, is_seconds, is_duration):
        """The same of an argument: the moment to be written, -1 if it is to stay as it is."""
        value: cython.longlong = 0
        margin: cython.longlong
        i: cython.Py_ssize_t
        digit: cython.int
        start: cython.Py_ssize_t = self.argument_start[index]
        count: cython.Py_ssize_t = self.argument_bytes[index]
        is_negative: cython.bint = count > 0 and self.ptr[start] == 45
        if is_negative:
            start += 1
            count -= 1
        if count == 0 or count > MOST_DIGITS:
            return -1
        for i in range(start, start + count):
            digit = self.ptr[i] - 48
            if digit < 0 or digit > 9:
                return -1
            value = value * 10 + digit
        if is_seconds:
            if value > MOST_SECONDS:
                return -1
            value *= 1000
        if is_negative:
            value = -value
        if is_duration:
            return self.later_after(value)
        margin = self.margin_of(value)
        return max(value + margin, 1) if margin else -1

    def later_after(self, duration_ms):
        """The moment so long after the receipt, with its margin."""
        moment: cython.longlong = self.received_ms + self.clock_offset_ms + duration_ms
        if moment < 1:
            moment = 1
        return moment + self.margin_of(moment)

    def margin_of(self, moment):
        """The margin for an expiry at `moment`, ms; notes that there is one."""
        if self.margin_ms == 0 or moment >= self.horizon_ms:
            return 0
        self.has_margin = True
        if self.margin_since_ms == 0:
            self.margin_since_ms = max(self.received_ms + self.clock_offset_ms, 1)
        return self.margin_ms


def number_in(text):
    """What a server takes for a moment or a duration; None for anything else."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if -MOST_SECONDS <= number <= MOST_SECONDS else None
