from engine.codec.rdb_walker cimport FINISHED, NEED_DATA, RdbWalker

cdef class RecordReader(RdbWalker):
    cdef int db
    cdef long long expire_at_ms
    cdef long long idle_seconds
    cdef int frequency
    cdef object key_metadata
    cdef object held  # the last key, until what belongs to it has been read
    cdef object member
    cdef public bint is_finished
    cpdef feed(self, bytes chunk)
    cpdef bytes rest(self)
    cpdef list next_records(self, Py_ssize_t limit)
    cpdef finish(self)
    cdef forget_attributes(self)
    cdef object key_record(self)
    cdef int take_other(self, list found) except -1
    cdef let_go(self, list found)
    cdef take_aux(self, Py_ssize_t at, list found)
    cdef bytes raw_record(self)
    cdef object other_record(self, Py_ssize_t at)
