from engine.codec.value_check cimport ValueChecker

cpdef int check_stream(ValueChecker value, int generation) except -1
cdef int check_node(ValueChecker value, set[bytes] seen) except -1
cdef int check_entry(ValueChecker value, Py_ssize_t node, long long master_fields) except -1
cdef int check_group(ValueChecker value, int generation, set[bytes] seen) except -1
cdef int check_consumer(ValueChecker value, int generation, set[bytes] seen, set[bytes] pending) except -1
cdef long long node_number(ValueChecker value, Py_ssize_t node, str name) except? 1
cdef int skip_elements(ValueChecker value, Py_ssize_t node, long long count) except -1
cdef int add_once(set[bytes] seen, bytes name, ValueChecker value, Py_ssize_t at, str what) except -1
