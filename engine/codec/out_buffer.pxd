cdef class OutBuffer:
    cdef bytearray data
    cdef bytes exact
    cdef unsigned char* ptr
    cdef Py_ssize_t pos
    cdef Py_ssize_t capacity
    cdef bind(self)
    cdef int make_room(self, Py_ssize_t count) except -1
    cdef int put(self, const unsigned char* source, Py_ssize_t start, Py_ssize_t count) except -1
    cdef Py_ssize_t reserve(self, Py_ssize_t count) except -1
    cdef void put_at(self, Py_ssize_t place, const unsigned char* source, Py_ssize_t start, Py_ssize_t count) noexcept
    cdef int put_bytes(self, bytes text) except -1
    cdef int put_byte(self, unsigned char value) except -1
    cdef int put_number(self, unsigned long long value) except -1
    cdef int put_header(self, unsigned char mark, unsigned long long value) except -1
    cdef int put_line_end(self) except -1
    cdef int put_bulk(self, const unsigned char* source, Py_ssize_t start, Py_ssize_t count) except -1
    cdef int put_bulk_bytes(self, bytes text) except -1
    cdef int put_bulk_number(self, unsigned long long value) except -1
    cdef int put_little_endian(self, unsigned long long value, int width) except -1
    cdef bytes take(self)
    cdef int begin_exact(self, Py_ssize_t capacity) except -1
    cdef bytes end_exact(self)
