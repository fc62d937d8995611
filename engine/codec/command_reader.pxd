cdef enum:
    KEPT_ARGUMENTS = 12

cdef long long MAX_ARGUMENTS  # as Python numbers they would cost an object for each argument
cdef long long MAX_ARGUMENT_BYTES
cdef Py_ssize_t MARK_BYTES
cdef long long MARK_BIAS

cdef int short_length(const unsigned char* data, Py_ssize_t at, Py_ssize_t end) noexcept

cdef class CommandReader:
    cdef bytearray window
    cdef unsigned char* ptr
    cdef Py_ssize_t pos
    cdef Py_ssize_t end
    cdef Py_ssize_t command  # where the command at hand begins in the window
    cdef long long base_offset  # stream offset of the window's first byte
    cdef long long arguments
    cdef long long arguments_done
    cdef Py_ssize_t[12] argument_start
    cdef Py_ssize_t[12] argument_bytes
    cdef long long number
    cdef public bint takes_marks
    cdef Py_ssize_t marked_bytes
    cdef public int source_db
    cdef bind(self)
    cdef add_bytes(self, bytes chunk)
    cdef out_of_step(self, message)
    cdef int read_command(self) except -1
    cdef bint read_mark(self) except -1
    cdef int read_inline(self) except -1
    cdef Py_ssize_t read_length(self, Py_ssize_t at) except -2
    cdef Py_ssize_t read_number(self, Py_ssize_t at) except -2
    cdef bint is_named(self, const unsigned char* name) noexcept
    cdef bytes argument(self, Py_ssize_t index)
