cdef enum:
    ROOM = 4096
    NAME_BYTES = 64
    UNKNOWN = -1

cdef Py_ssize_t place_of(const unsigned char* data, Py_ssize_t start, Py_ssize_t size) noexcept
cdef unsigned char upper(unsigned char byte) noexcept
cdef unsigned int beginning(unsigned char byte) noexcept

cdef class NameTable:
    cdef bytes names
    cdef int[4096] starts
    cdef int[4096] sizes
    cdef int[4096] numbers
    cdef unsigned int[65] beginnings
    cdef int number_of(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t size) noexcept
