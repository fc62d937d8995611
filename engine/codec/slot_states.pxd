cdef enum:
    SLOTS = 16384
    ABSENT = 0
    OTHER = 1
    STREAM = 2
    UNREADABLE = -2
    MARK_BYTES = 2
    LETTER_P = 112
    LETTER_O = 111
    LETTER_M = 109
    LETTER_B = 98
    LETTER_G = 103
    LETTER_R = 114
    LETTER_L = 108
    LETTER_F = 102

cdef class SlotStates:
    cdef public bytearray states
    cdef public object offsets
    cdef public object margins
    cdef public object dbs
    cdef public object everywhere
    cdef public object generations
    cdef public object replids
    cdef public object ledgers
    cdef public list texts
    cdef dict places
    cdef public list marks
    cdef int place_of(self, bytes text) except -1

cdef class SlotStateReader:
    cdef object slots
    cdef SlotStates found
    cdef long long first
    cdef public long long replies
    cdef list errors
    cdef bytes tail
    cdef long long left
    cdef int letter
    cdef int slot
    cpdef list take_errors(self)
    cpdef list take_null_arrays(self)
    cpdef long long feed(self, bytes chunk) except -1
    cdef unexpected(self, bytes chunk, Py_ssize_t at)
    cdef int begin(self, long long count) except -1
    cdef int take(self, bytes chunk, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) except -1

cdef long long number_in(const unsigned char* data, Py_ssize_t start, Py_ssize_t stop) noexcept
