cpdef bytes listpack_with_later_times(bytes body, long long margin_ms)
cdef Py_ssize_t entry_end(bytearray body, Py_ssize_t at, Py_ssize_t end) except -1
cpdef bytes length_prefixed(bytes body)
