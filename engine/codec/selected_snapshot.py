"""The snapshot of a task that leaves keys or databases out, or gives them other names: see engine/selection.py."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if not cython.compiled:
    from engine.codec.snapshot import SnapshotTranscoder

from engine.codec.key_filter import KeyFilter
from engine.errors import UnsupportedByTarget

COLLISION = "the same name in another database"


@cython.cclass
class SelectedSnapshotTranscoder(SnapshotTranscoder):
    """As SnapshotTranscoder. keys_filtered: keys left out; commands_filtered: function libraries and scripts left out.

    owners: NameOwners where databases share one of the target, else None.
    """

    def __init__(self, plan, owners=None) -> None:
        SnapshotTranscoder.__init__(self, plan)
        selection = plan.selection
        self.selection = selection
        self.keys = KeyFilter(selection.include_keys, selection.exclude_keys)
        self.is_about_keys = selection.is_about_keys
        self.owners = owners
        self.has_owners = owners is not None
        self.added = selection.prefix_add
        self.stripped_bytes = len(selection.prefix_strip)
        self.renames = bool(self.added) or self.stripped_bytes > 0
        self.takes_functions = "FUNCTION" not in selection.exclude_commands
        self.takes_scripts = "SCRIPT" not in selection.exclude_commands
        self.takes_db = True
        self.keys_filtered = 0
        self.commands_filtered = 0
        self.choose_db()

    def choose_db(self):
        target_db = self.selection.target_db(self.db)
        self.takes_db = target_db is not None
        if not self.takes_db:
            return
        if self.has_owners:
            self.owners.select(self.db)
        self.target_db = target_db
        if self.records_keys:
            self.key_recorder.select(self.target_db)
        if self.block_replies > 0:
            self.put_select()

    def take_key(self):
        if self.takes_value():
            return SnapshotTranscoder.take_key(self)
        self.keys_read += 1
        self.last_hash = None
        self.forget_attributes()
        return 0

    def takes_value(self):
        if not self.takes_db:
            self.keys_filtered += 1
            return False
        return not (self.is_about_keys or self.has_owners) or self.wants_key()

    def wants_key(self):
        """Whether the current key goes; what does not is counted."""
        at: cython.Py_ssize_t = self.record + 1
        other: cython.int = -1
        if self.ptr[at] < 0xC0:
            self.skip_string(at)
            at = self.text_start
            if not self.keys.takes(self.ptr, at, self.value_start - at):
                self.keys_filtered += 1
                return False
            if self.has_owners:
                other = self.owners.claim(self.ptr, at, self.value_start - at)
        else:
            name = self.key_text()
            if not self.keys.takes_name(name):
                self.keys_filtered += 1
                return False
            if self.has_owners:
                other = self.owners.claim_name(self.db, name)
        if other >= 0:
            self.refuse_collision(self.key_text(), other)
            return False
        return True

    def refuse_collision(self, key, other):
        """Two keys of the source would be one of the target: never the one over the other."""
        why = f"database {other} has a key of this name, and both go to database {self.target_db} of the target"
        if not self.skips_refused:
            raise UnsupportedByTarget(
                f"key {key[:80]!r} of database {self.db} has no place at the target: {why}",
                hint="map one of the databases to another number with --db-map, leave one out with --databases or "
                "--exclude-key, or leave such keys out with --on-unsupported skip, under another --task-id",
            )
        self.refused.append((self.db, key, COLLISION, why))

    def target_name(self):
        name = self.key_text()
        return self.added + name[self.stripped_bytes :] if self.renames else name

    def put_key(self):
        at: cython.Py_ssize_t = self.record + 1
        size: cython.Py_ssize_t
        out = self.out
        if not self.renames:
            return SnapshotTranscoder.put_key(self)
        if self.ptr[at] >= 0xC0:
            out.put_bulk_bytes(self.target_name())
            return 0
        self.skip_string(at)
        at = self.text_start + self.stripped_bytes
        size = self.value_start - at
        out.put_header(36, size + len(self.added))
        out.put_bytes(self.added)
        out.put(self.ptr, at, size)
        out.put_line_end()
        return 0

    def note_key(self):
        if self.renames:
            self.key_recorder.note_bytes(self.target_name())
            return 0
        return SnapshotTranscoder.note_key(self)

    def put_function(self, code):
        if self.takes_functions:
            SnapshotTranscoder.put_function(self, code)
        else:
            self.commands_filtered += 1

    def take_aux(self, at):
        if not self.takes_scripts and self.text_at(at) == b"lua":
            self.commands_filtered += 1
        else:
            SnapshotTranscoder.take_aux(self, at)
