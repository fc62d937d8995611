cdef int signed(int byte) noexcept

cdef class KeyGlob:
    cdef bytes glob
    cdef bytes text
    cdef const unsigned char* ptr
    cdef const unsigned char* text_ptr
    cdef Py_ssize_t count
    cdef Py_ssize_t text_bytes
    cdef bint is_literal
    cdef bint is_open  # what follows the text does not matter
    cdef bind(self)
    cdef bint fits(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
    cdef bint fits_glob(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
    cdef Py_ssize_t one_byte(self, Py_ssize_t at, int byte) noexcept
    cdef Py_ssize_t one_of(self, Py_ssize_t at, int byte) noexcept

cdef class KeyFilter:
    cdef list includes
    cdef list excludes
    cdef Py_ssize_t include_count
    cdef Py_ssize_t exclude_count
    cdef bint takes(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
    cpdef bint takes_name(self, bytes name) noexcept
