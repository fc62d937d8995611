from engine.codec.command_reader cimport KEPT_ARGUMENTS
from engine.codec.name_table cimport NameTable
from engine.codec.stream cimport StreamTranscoder

cdef class ForeignStreamTranscoder(StreamTranscoder):
    cdef object support
    cdef bint skips_refused
    cdef NameTable names
    cdef public long long bridged
    cdef public list refused
    cdef bint takes_moments
    cdef bint is_foreign(self) noexcept
    cdef bint has_condition(self) noexcept
    cdef bint take_foreign(self) except -1
    cdef refuse(self, list words, why)
    cdef with_margin(self, list command)
