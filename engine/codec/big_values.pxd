from engine.codec.out_buffer cimport OutBuffer
from engine.codec.rdb_walker cimport RdbWalker
from engine.codec.stream_expander cimport StreamExpander
from engine.codec.value_expander cimport BEFORE_VALUE, BEHIND_VALUE, DONE, FULL, REFUSED

cdef enum:
    NO_VALUE = 0
    CHECK = 1
    BEGINNING = 2
    EXPANDING = 3
    FINISH = 4
    SKIPPING = 5
    NEEDS_MORE = 0
    GOES_ON = 1
    GIVES_OUT = 2

cdef class BigValues(RdbWalker):
    cdef object plan
    cdef OutBuffer out
    cdef Py_ssize_t big_bytes
    cdef int big_value
    cdef StreamExpander expander
    cdef bint has_field_ttls
    cdef readonly bytes last_value_key
    cdef bint is_replace
    cdef int db  # of the source
    cdef readonly int target_db
    cdef long long expire_at_ms
    cdef long long idle_seconds
    cdef int frequency
    cdef bytes key_metadata
    cdef long long margin_ms
    cdef public long long horizon_ms
    cdef public long long margined
    cdef int block_replies
    cdef int block_keys
    cdef public long long keys_read
    cdef public long long big_values
    cdef public dict not_carried
    cdef bytes last_hash  # the key before, if it is a hash that KeyDB may have written
    cdef bint records_keys
    cdef put_select(self)
    cdef int note_key(self) except -1
    cdef refuse(self, bytes key, what, why)
    cdef count(self, kind, number)
    cdef forget_attributes(self)
    cdef take_block(self)
    cdef bytes target_name(self)
    cdef bint takes_value(self) except -1
    cdef bint grows_too_large(self) except -1
    cdef bint begin_value(self, Py_ssize_t known) except -1
    cdef int go_on_with_value(self) except -1
    cdef bytes built_name(self)
    cdef give_up(self)
    cdef end_value(self)
    cpdef leave_value_out(self)
    cdef alone_block(self)
