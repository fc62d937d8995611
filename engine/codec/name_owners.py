"""Where several databases of a source go to one of the target: which of them has brought a name.

The first one to bring it keeps it until the next snapshot, so that no two are ever behind one key: what one database has
given up cannot come from another, either.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.key_set import hash_bytes

from engine.codec.key_set import hash_name


@cython.final
@cython.cclass
class NameOwners:
    """keeper: has the sets; see NameKeeper in name_owners.pyi. seed: of the names' hashes, 64 bits. db: the one selected."""

    def __init__(self, keeper, seed) -> None:
        self.keeper = keeper
        self.seed = seed
        self.db = -1
        self.own = None
        self.older = []
        self.others = []

    def select(self, db):
        """What is claimed from now on is of this database."""
        self.db = db
        self.own, self.older, self.others = self.keeper.sets_for(db)

    def claim(self, data, start, count):
        """Make the name of `count` bytes of `data` from `start` the selected database's; -1, or the one that has it."""
        return self.claim_hash(hash_bytes(data, start, count, self.seed))

    def claim_hash(self, value):
        if self.own.contains(value):
            return -1
        for names in self.older:
            if names.contains(value):
                return -1
        for db, names in self.others:
            if names.contains(value):
                return db
        self.own.add(value)
        return -1

    def claim_name(self, db, name):
        """The same for a name of `db`, whichever is selected."""
        selected = self.db
        if db == selected:
            return self.claim_hash(hash_name(name, self.seed))
        self.select(db)
        other = self.claim_hash(hash_name(name, self.seed))
        if selected >= 0:
            self.select(selected)
        return other

    def owner_of(self, db, name):
        """The database among those that share one with `db`, itself included; None: nobody has brought the name."""
        own, older, others = self.keeper.sets_for(db)
        value = hash_name(name, self.seed)
        for owner, names in [(db, own), *((db, it) for it in older), *others]:
            if names.contains(value):
                return owner
        return None

    def start_again(self, seed):
        """The keeper's sets are others now."""
        self.seed = seed
        if self.db >= 0:
            self.select(self.db)
