cdef enum:
    WORD_BYTES = 8
    WORDS = 1024
    RULES = 2048

cdef unsigned long long WORD_FACTOR
cdef unsigned long long[9] WORD_MASKS
cdef unsigned long long[1024] WORD_NAMES
cdef int[1024] WORD_RULES

cdef unsigned long long[2048] RULE_NAMES
cdef int[2048] RULE_BYTES
cdef int[2048] RULE_FIRST
cdef int[2048] RULE_LAST
cdef int[2048] RULE_STEP

cdef unsigned long long name_code(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cdef unsigned long long word_of(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cdef Py_ssize_t rule_before_key(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cdef Py_ssize_t find_rule(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
