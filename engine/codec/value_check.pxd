from engine.codec.lzf cimport lzf_expand, lzf_measure
from engine.codec.packed cimport (
    IntsetReader,
    ListpackReader,
    PackedReader,
    ZiplistReader,
    ZipmapReader,
)

# What stream_check uses is open to Python as well: it may be compiled or not.
cdef class ValueChecker:
    cdef bytes value
    cdef bint is_valkey
    cdef public Py_ssize_t at
    cdef Py_ssize_t end
    cdef int encoding  # of the last string: 0-3, -1 none
    cdef Py_ssize_t text_start  # the last string as it is stored
    cdef Py_ssize_t text_end
    cdef unsigned long long text_length  # the last string when decompressed
    cdef public ListpackReader listpack
    cdef ZiplistReader ziplist
    cdef int check(self, int value_type) except -1
    cdef int check_collection(self, int value_type) except -1
    cdef int check_container(self, int value_type) except -1
    cpdef object corrupt(self, str message, Py_ssize_t at)
    cpdef int skip(self, unsigned long long count) except -1
    cpdef unsigned long long length(self) except? 1
    cpdef unsigned long long count(self, Py_ssize_t least_bytes) except? 1
    cdef int find_string(self) except -1
    cpdef int skip_string(self) except -1
    cpdef int skip_strings(self, unsigned long long count) except -1
    cpdef bytes string(self)
    cpdef bytes raw(self, Py_ssize_t count)
    cdef long long milliseconds(self) except? 1
    cpdef int open_packed(self, PackedReader reader) except -1
    cdef int skip_packed(self, PackedReader reader, int group, int kind) except -1
    cdef int check_number(self, PackedReader reader, int kind) except -1
    cdef int quicklist_node(self) except -1
    cdef int check_expiry(self, unsigned long long moment) except -1
    cdef int text_score(self) except -1
    cdef int binary_score(self) except -1
    cdef int hash_with_expiry(self, int value_type) except -1
    cdef int annotated(self) except -1
    cdef int cron(self) except -1

cpdef int check_value(int value_type, bint is_valkey, bytes value) except -1
