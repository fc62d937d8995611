from engine.codec.command_reader cimport KEPT_ARGUMENTS, CommandReader
from engine.codec.slot_rules cimport RULE_FIRST, RULE_LAST, rule_before_key
from engine.codec.slots cimport slot_of

cdef enum:
    INDEX_SHIFT = 44

cdef class SlotIndex:
    cdef object made
    cdef long long[::1] numbers
    cdef Py_ssize_t capacity
    cdef Py_ssize_t count
    cdef long long ends_at
    cdef int note(self, CommandReader reader, long long end) except -1
    cdef int grow(self) except -1
    cdef int append(self, long long number) except -1
    cdef take(self, long long end)
