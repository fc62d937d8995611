from engine.codec.rdb_walker cimport FINISHED, NEED_DATA, RdbWalker

cdef class DumpScan(RdbWalker):
    cdef long long now_ms
    cdef Py_ssize_t top
    cdef Py_ssize_t threshold
    cdef int delimiter
    cdef Py_ssize_t prefix_limit
    cdef int db
    cdef long long expire_at_ms
    cdef long long[256] counts
    cdef long long[256] sizes
    cdef long long[7] bins
    cdef long long[6] bounds
    cdef long long db_expiring
    cdef bytes last_prefix
    cdef list last_figures
    cdef public bint is_finished
    cdef public long long keys
    cdef public dict by_type
    cdef public dict expiring
    cdef public dict prefixes
    cdef public list biggest
    cdef public dict modules
    cdef public dict aux
    cdef public dict other
    cdef public long long functions
    cpdef feed(self, bytes chunk)
    cpdef bint scan(self) except -1
    cpdef finish(self)
    cdef keep_db(self)
    cdef int take_key(self) except -1
    cdef note_big(self, Py_ssize_t size)
    cdef int note_prefix(self, Py_ssize_t size) except -1
    cdef bint is_last_prefix(self, Py_ssize_t start, Py_ssize_t count) except -1
    cdef int take_opcode(self) except -1
