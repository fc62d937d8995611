from engine.codec.block_writer cimport BlockWriter
from engine.codec.command_reader cimport KEPT_ARGUMENTS
from engine.codec.created_keys cimport record_created_keys
from engine.codec.key_recorder cimport KeyRecorder

cdef class StreamTranscoder(BlockWriter):
    cdef object plan
    cdef public long long margin_ms
    cdef public long long horizon_ms
    cdef bint has_margin
    cdef bint absolute_expiry
    cdef long long clock_offset_ms
    cdef public bint in_transaction
    cdef long long received_ms
    cdef public long long getack_offset
    cdef public long long flushes
    cdef public long long pings
    cdef public long long messages_dropped
    cdef public long long rewritten
    cdef bint is_late
    cdef public set late_keys
    cdef public set late_hashes
    cdef public bint is_settling
    cdef public bint verifies_keys
    cdef public list noted
    cdef public long long swaps
    cdef public list swapped
    cdef public long long late_keys_lost
    cdef public long long late_hashes_lost
    cdef set taken_keys
    cdef set taken_hashes
    cdef bint taken_swapped
    cdef bint has_late_keys
    cdef public long long pause_at
    cdef public bint holds_flushes
    cdef public bint flush_is_due
    cdef public int flushed_db
    cdef KeyRecorder key_recorder
    cdef bint records_keys
    cdef note_late_key(self, int db, bytes key)
    cdef follow_late_key(self, bytes name)
    cpdef feed(self, bytes chunk, long long received_ms, bint is_late)
    cdef note_late_hash(self, int db, bytes key)
    cdef note_late(self, bint is_whole, int db, bytes key)
    cpdef add_late_keys(self, keys, hashes)
    cpdef tuple take_late(self, int keys_limit, int hashes_limit)
    cpdef release_late_keys(self)
    cpdef next_block(self, bint flush)
    cdef bint is_special(self) noexcept
    cdef bint makes_of_others(self, Py_ssize_t count) noexcept
    cdef note_result(self, bytes name)
    cdef bint has_expiry_option(self, Py_ssize_t first) noexcept
    cdef take_special(self)
    cdef take_select(self)
    cdef take_swapdb(self)
    cdef take_expiry(self, bytes name)
    cdef take_field_expiry(self, bytes name)
    cdef Py_ssize_t head_of(self, Py_ssize_t index) noexcept
    cdef with_moment(self, int first_option)
    cdef with_absolute_ttl(self)
    cdef with_late_msetex(self)
    cdef moment_after(self, bytes text, bint is_seconds)
    cdef later_moment(self, bytes text, bint is_seconds)
    cdef margin_of(self, moment)
