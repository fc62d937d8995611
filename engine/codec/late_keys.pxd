from engine.codec.block_writer cimport BlockWriter

cdef Py_ssize_t MOST_DIGITS
cdef long long MOST_SECONDS

cdef class LateKeys(BlockWriter):
    cdef public long long margin_ms
    cdef public long long horizon_ms
    cdef bint has_margin
    cdef long long clock_offset_ms
    cdef long long received_ms
    cdef public set late_keys
    cdef public set late_hashes
    cdef public bint is_settling
    cdef public bint verifies_keys
    cdef public list noted
    cdef public long long late_keys_lost
    cdef public long long late_hashes_lost
    cdef set taken_keys
    cdef set taken_hashes
    cdef bint taken_swapped
    cdef bint has_late_keys
    cpdef add_late_keys(self, keys, hashes)
    cpdef tuple take_late(self, int keys_limit, int hashes_limit)
    cpdef release_late_keys(self)
    cdef note_late_key(self, int db, bytes key)
    cdef note_late_hash(self, int db, bytes key)
    cdef note_late(self, bint is_whole, int db, bytes key)
    cdef follow_late_key(self, bytes name)
    cdef swap_late_keys(self, int first_db, int second_db)
    cdef moment_after(self, bytes text, bint is_seconds)
    cdef later_moment(self, bytes text, bint is_seconds)
    cdef long long moment_at(self, Py_ssize_t index, bint is_seconds, bint is_duration) noexcept
    cdef long long later_after(self, long long duration_ms) noexcept
    cdef long long margin_of(self, long long moment) noexcept
