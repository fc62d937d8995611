from engine.codec.key_filter cimport KeyFilter
from engine.codec.name_owners cimport NameOwners
from engine.codec.snapshot cimport SnapshotTranscoder

cdef class SelectedSnapshotTranscoder(SnapshotTranscoder):
    cdef object selection
    cdef KeyFilter keys
    cdef NameOwners owners
    cdef bint is_about_keys
    cdef bint has_owners
    cdef bytes added
    cdef Py_ssize_t stripped_bytes
    cdef bint renames
    cdef bint takes_functions
    cdef bint takes_scripts
    cdef bint takes_db
    cdef public long long keys_filtered
    cdef public long long commands_filtered
    cdef bint wants_key(self) except -1
    cdef refuse_collision(self, bytes key, int other)
