cdef class PackedReader:
    cdef bytes body
    cdef public Py_ssize_t origin
    cdef Py_ssize_t start
    cdef Py_ssize_t last  # the end byte; behind the last integer for an intset
    cdef Py_ssize_t at
    cdef Py_ssize_t declared  # elements according to the header, -1: count them
    cdef Py_ssize_t elements
    cdef public bint is_number
    cdef public long long number
    cdef public Py_ssize_t text_start
    cdef public Py_ssize_t text_end
    cpdef int open(self, bytes body, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef bint advance(self) except -1
    cpdef object element(self)
    cdef object corrupt(self, str message, Py_ssize_t at)
    cdef int begin(self, bytes body, Py_ssize_t start, Py_ssize_t end, Py_ssize_t least, str name) except -1
    cdef int end_marked(self, str name) except -1
    cdef int need(self, Py_ssize_t at, unsigned long long count) except -1
    cdef unsigned long long little_endian(self, Py_ssize_t at, Py_ssize_t width) except? 1
    cdef long long signed_number(self, Py_ssize_t at, Py_ssize_t width) except? 1
    cdef int sized(self, str name, Py_ssize_t count_at) except -1
    cdef Py_ssize_t text(self, Py_ssize_t at, Py_ssize_t head, unsigned long long length) except -1
    cdef Py_ssize_t integer(self, Py_ssize_t at, Py_ssize_t width) except -1
    cdef int all_read(self) except -1

cdef class ListpackReader(PackedReader):
    cdef Py_ssize_t entry(self, Py_ssize_t at) except -1

cdef class ZiplistReader(PackedReader):
    cdef Py_ssize_t tail
    cdef Py_ssize_t last_entry
    cdef Py_ssize_t previous_size
    cdef Py_ssize_t data(self, Py_ssize_t at) except -1

cdef class IntsetReader(PackedReader):
    cdef Py_ssize_t width

cdef class ZipmapReader(PackedReader):
    cdef bint is_value_next
    cdef unsigned long long length(self, Py_ssize_t at) except? 1

cdef list all_elements(PackedReader reader, bytes body)
cpdef list listpack_items(bytes body)
cpdef list ziplist_items(bytes body)
cpdef list intset_items(bytes body)
cpdef list zipmap_items(bytes body)
