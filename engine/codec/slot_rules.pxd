cdef enum:
    RULES = 2048

cdef unsigned long long[2048] RULE_NAMES
cdef int[2048] RULE_BYTES
cdef int[2048] RULE_FIRST
cdef int[2048] RULE_LAST
cdef int[2048] RULE_STEP

cdef unsigned long long name_code(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cdef Py_ssize_t find_rule(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
