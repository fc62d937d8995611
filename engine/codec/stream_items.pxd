from engine.codec.value_items cimport ValueItems

cdef class StreamItems(ValueItems):
    cdef public bint gives_deleted
    cdef int generation
    cdef set seen
    cdef unsigned long long ms  # the open node's master id
    cdef unsigned long long seq
    cdef Py_ssize_t node
    cdef long long entries
    cdef long long deleted
    cdef list master_fields
    cdef int open_node(self) except -1
    cdef object entry(self)
    cdef long long piece_number(self, str name) except? 1
    cdef list pieces(self, long long count)
    cpdef object details(self)
    cdef int note_once(self, set seen, bytes name, Py_ssize_t at, str what) except -1
    cdef object id_as_lengths(self)
    cdef object id_as_bytes(self)
    cdef object one_group(self, set names)
    cdef object one_consumer(self, set seen, dict waiting, dict owners)
    cdef object idempotent_producers(self)
