cpdef int lzf_measure(
    bytes source, Py_ssize_t start, Py_ssize_t end, unsigned long long expected
) except -1
cpdef bytes lzf_expand(
    bytes source, Py_ssize_t start, Py_ssize_t end, unsigned long long expected
)
cpdef bytes lzf_decompress(bytes source, unsigned long long expected)
