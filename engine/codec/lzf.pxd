cpdef int lzf_measure(
    bytes source, Py_ssize_t start, Py_ssize_t end, unsigned long long expected
) except -1
cpdef bytes lzf_expand(
    bytes source, Py_ssize_t start, Py_ssize_t end, unsigned long long expected
)
cpdef bytes lzf_decompress(bytes source, unsigned long long expected)

cdef class LzfStream:
    cdef public unsigned long long made
    cdef unsigned long long expected
    cdef Py_ssize_t piece_bytes
    cdef bytearray room
    cdef Py_ssize_t filled
    cdef Py_ssize_t given  # up to here the room's bytes were given out
    cpdef Py_ssize_t take(self, bytearray source, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef Py_ssize_t waiting(self)
    cpdef bytes give(self)
