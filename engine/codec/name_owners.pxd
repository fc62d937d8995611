from engine.codec.key_set cimport KeySet, hash_bytes

cdef class NameOwners:
    cdef object keeper
    cdef unsigned long long seed
    cdef int db
    cdef KeySet own
    cdef list older
    cdef list others
    cpdef select(self, int db)
    cdef int claim(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) except -2
    cdef int claim_hash(self, unsigned long long value) except -2
    cpdef int claim_name(self, int db, bytes name) except -2
    cpdef start_again(self, unsigned long long seed)
