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

cdef enum:
    NOBODY = -1

# Of each slot: bytes of its commands in the batch that is made, then where the next one goes there; how many they are (both 0
# between batches); the offset of its newest checkpoint; the letters of its tag.
cdef enum:
    SIZE = 0
    COMMANDS = 1
    WRITTEN = 2
    TAG = 3

cdef Py_ssize_t AHEAD
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
    cdef doubled(self, str kind, numbers)
    cdef int clear(self) except -1
    cdef int measure(self, long long[::1] records) except -1
    cdef int scatter(self, long long[::1] records, OutBuffer out) except -1
