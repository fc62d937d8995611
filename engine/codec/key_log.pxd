from engine.codec.key_set cimport NameSink

cdef class KeyLog(NameSink):
    cdef object append
    cdef int add_batch(self, const unsigned long long* values, Py_ssize_t count) except -1
