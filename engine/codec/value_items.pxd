from engine.codec.lzf cimport lzf_expand
from engine.codec.packed cimport IntsetReader, PackedReader, ZipmapReader
from engine.codec.value_check cimport ValueChecker

cdef class ValueItems(ValueChecker):
    cdef public int value_type
    cdef public str kind
    cdef int group  # elements of a container that make an item
    cdef unsigned long long left  # items of a plain collection
    cdef unsigned long long nodes  # containers still to be opened
    cdef unsigned long long earliest  # of a type 24's field expiries, which count from it
    cdef Py_ssize_t taken  # bytes of the last item
    cdef Py_ssize_t container_at
    cdef PackedReader reader
    cdef bint is_open
    cdef bint is_finished
    cpdef list next_batch(self, Py_ssize_t items, Py_ssize_t size)
    cdef int finish(self) except -1
    cdef begin(self)
    cdef int begin_container(self) except -1
    cdef object next_item(self)
    cdef object plain_text(self)
    cdef object plain_item(self)
    cpdef bytes text(self)
    cpdef int skip_annotated(self) except -1
    cdef object text_score_value(self)
    cdef object double(self)
    cdef long long field_expiry(self) except? -2
    cdef object packed_item(self)
    cdef int packed_advance(self) except -1
    cdef bytes packed_text(self)
