from engine.codec.out_buffer cimport OutBuffer

cdef enum:
    NOBODY = -1

cdef Py_ssize_t MOST_KEPT_BYTES

cdef class SlotQueue:
    cdef OutBuffer store
    cdef Py_ssize_t capacity
    cdef long long[::1] ends
    cdef int[::1] slots
    cdef int[::1] following
    cdef int[::1] touched
    cdef Py_ssize_t entries
    cdef Py_ssize_t touched_slots
    cdef object members
    cdef int grow(self) except -1
    cdef copied(self, str kind, numbers, Py_ssize_t count)
    cdef int clear(self) except -1
    cdef int measure(self, long long[::1] sums) except -1
    cdef int scatter(self, long long[::1] places, OutBuffer out) except -1
