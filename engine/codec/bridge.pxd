from engine.codec.out_buffer cimport OutBuffer
from engine.codec.value_items cimport ValueItems

cdef class ValueBridge:
    cdef frozenset redis_types
    cdef frozenset valkey_types
    cdef bint drops_field_ttls
    cdef OutBuffer out
    cdef public str reason
    cdef public dict fell_away
    cpdef bint knows(self, int value_type, bint is_valkey) except -1
    cpdef object bridged(self, int value_type, bint is_valkey, bytes value)
    cdef bint has_plain(self, str kind) except -1
    cdef int note_lost(self, str what) except -1
    cdef bytes collection(self, ValueItems items)
    cdef object hash_as(self, ValueItems items)
    cdef bytes plain_hash(self, list found)
    cdef bytes redis_hash(self, list found, long long earliest)
    cdef bytes valkey_hash(self, list found)
    cdef object older_stream(self, int value_type, bytes value)
    cdef bytes counted(self, unsigned long long count)
    cdef int put_length(self, unsigned long long number) except -1
    cdef int put_text(self, bytes text) except -1
    cdef int put_double(self, double score) except -1
