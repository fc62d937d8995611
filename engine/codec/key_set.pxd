cimport cython

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define key_set_prefetch(p) __builtin_prefetch((p), 1)
    #else
    #define key_set_prefetch(p) ((void)(p))
    #endif
    """
    void key_set_prefetch(const void* place) noexcept

cdef enum:
    TABLES = 256
    DIRECTORY = 16
    IN_USE = 272
    HEADER_WORDS = 1024
    FIRST_SLOTS_LOG2 = 6
    PAGE_WORDS = 512
    TOMBSTONE = 1
    AHEAD = 16

cdef unsigned long long PRIME_1
cdef unsigned long long PRIME_2
cdef unsigned long long PRIME_3

cdef unsigned long long word_at(const unsigned char* data, Py_ssize_t at) noexcept
cdef unsigned long long mixed(unsigned long long total, unsigned long long word) noexcept
cdef unsigned long long hash_bytes(
    const unsigned char* data, Py_ssize_t start, Py_ssize_t count, unsigned long long seed
) noexcept
cpdef unsigned long long hash_name(bytes name, unsigned long long seed)

@cython.locals(view=cython.ulonglong[::1])
cpdef bytes in_table_order(bytes words)

cdef class NameSink:
    cdef int add_batch(self, const unsigned long long* values, Py_ssize_t count) except -1

cdef class KeySet(NameSink):
    cdef object storage
    cdef unsigned long long[::1] view
    cdef unsigned long long* words
    cdef Py_ssize_t word_count
    cdef attach(self, view)
    cdef make_empty(self)
    cdef check(self)
    cpdef close(self)
    cpdef int add(self, unsigned long long value) except -1
    cdef int add_batch(self, const unsigned long long* values, Py_ssize_t count) except -1
    cpdef add_words(self, bytes words)
    cdef void prefetch(self, unsigned long long value) noexcept
    cdef Py_ssize_t find(self, unsigned long long value) noexcept
    cpdef bint contains(self, unsigned long long value) noexcept
    cpdef bint discard(self, unsigned long long value) noexcept
    cdef int grow(self, Py_ssize_t table) except -1
