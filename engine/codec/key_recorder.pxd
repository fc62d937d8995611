from engine.codec.key_set cimport NameSink, hash_bytes

cdef enum:
    BATCH = 512

cdef class KeyRecorder:
    cdef object owner
    cdef unsigned long long seed
    cdef public long long noted
    cdef public bint ignores_flushes
    cdef readonly int db
    cdef NameSink brought
    cdef NameSink current
    cdef bint has_sets
    cdef int pending_count
    cdef unsigned long long[512] pending
    cdef int note(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) except -1
    cpdef int note_bytes(self, bytes name) except -1
    cpdef int drain(self) except -1
    cpdef int select(self, int db) except -1
    cpdef start_again(self)
    cpdef note_swap(self, int first_db, int second_db, long long offset)
    cpdef note_flush(self, db, long long offset)
