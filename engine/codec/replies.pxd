cdef enum:
    QUEUED_BYTES = 9

cdef bytes QUEUED

cdef bint is_queued(const unsigned char* data, Py_ssize_t at, const unsigned char* queued) noexcept
cdef Py_ssize_t line_end_from(const unsigned char* data, Py_ssize_t at, Py_ssize_t end) noexcept

cdef class ReplySkimmer:
    cdef bytes tail
    cdef long long skip
    cdef int depth
    cdef long long[16] remaining
    cdef long long[16] total
    cdef public long long replies
    cdef public long long nulls
    cdef list errors
    cdef public long long most_errors
    cdef list null_arrays
    cpdef list take_errors(self)
    cpdef list take_null_arrays(self)
    cpdef long long feed(self, bytes chunk) except -1
    cdef long long parse(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t stop) except? -2
    cdef bad_length(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t stop)
    cdef note_error(self, bytes text)
    cdef int complete_element(self) except -1
