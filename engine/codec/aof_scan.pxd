cdef long long MAX_ARGUMENTS
cdef long long MAX_ARGUMENT_BYTES
cdef Py_ssize_t MAX_LINE_BYTES
cdef Py_ssize_t LONGEST_NAME

cdef class AofScan:
    cdef str name
    cdef bytes window
    cdef unsigned char* ptr
    cdef long long base  # file offset of the window's first byte
    cdef Py_ssize_t pos
    cdef Py_ssize_t end
    cdef long long skip  # bytes of a value that are still to be passed over
    cdef bint awaits_end
    cdef long long arguments
    cdef long long arguments_done
    cdef long long number
    cdef bint begins
    cdef bint ends
    cdef public bint in_transaction
    cdef public long long boundary
    cdef public long long valid_end
    cdef public long long commands
    cdef public list annotations
    cdef bind(self)
    cpdef feed(self, bytes chunk)
    cdef int end_command(self) except -1
    cdef bint read_line(self) except -1
    cdef bint read_annotation(self) except -1
    cdef Py_ssize_t read_number(self, Py_ssize_t at) except -2
    cdef bint is_named(self, Py_ssize_t at, const unsigned char* name) noexcept
    cdef corrupt(self, message)
