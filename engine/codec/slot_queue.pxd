from engine.codec.out_buffer cimport OutBuffer

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define redis_ferry_prefetch(place) __builtin_prefetch(place)
    #else
    #define redis_ferry_prefetch(place) ((void)(place))
    #endif
    """
    void prefetch "redis_ferry_prefetch"(const void* place) noexcept

# Of each slot: bytes of its commands in its queue, and while a batch is made where the next one goes there; how many they are;
# the offset of its newest checkpoint; its queue and, below PLACE_BITS, the letters of its tag.
cdef enum:
    SIZE = 0
    COMMANDS = 1
    WRITTEN = 2
    PLACE = 3

cdef enum:
    SIZE_BITS = 44

cdef Py_ssize_t AHEAD

cdef class SlotQueue:
    cdef Py_ssize_t capacity
    cdef long long[::1] starts
    cdef long long[::1] numbers
    cdef int[::1] touched
    cdef Py_ssize_t entries
    cdef Py_ssize_t touched_slots
    cdef long long size
    cdef list owners
    cdef bytes last_owner
    cdef object members
    cdef bint has_strangers
    cdef int clear(self) except -1
    cdef int take_over(self, bytes owner) except -1
    cdef int grow(self) except -1
    cdef doubled(self, str kind, numbers)
    cdef int append(self, int slot, bytes owner, const unsigned char* source, Py_ssize_t start, Py_ssize_t count, bint is_first) except -1
    cdef int slot_at(self, Py_ssize_t entry) noexcept
    cdef bytes command_at(self, Py_ssize_t entry)
    cdef int give_away(self, Py_ssize_t entry) except -1
    cdef int scatter(self, long long[::1] records, OutBuffer out) except -1
