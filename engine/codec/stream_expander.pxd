from engine.codec.out_buffer cimport OutBuffer
from engine.codec.rdb_walker cimport RdbWalker
from engine.codec.stream_items cimport StreamItems
from engine.codec.value_expander cimport DONE, END, FULL, HEAD, MORE, ValueExpander

cdef enum:
    STREAM_NODES = 10
    STREAM_ENTRIES = 11
    COUNTERS = 12
    GROUP = 13
    PENDING = 14
    CONSUMER = 15
    CLAIMS = 16
    RELEASED = 17
    PRODUCERS_HEAD = 18
    PRODUCER = 19
    MESSAGES = 20
    LAST = 21

cdef class StreamExpander(ValueExpander):
    cdef bint has_stream_counters
    cdef bint creates_consumers
    cdef int generation
    cdef list deleted_ids
    cdef unsigned long long lives  # entries that are not deleted
    cdef Py_ssize_t before_live  # deleted ones before the first of them
    cdef object node_places  # array of four numbers a node: its first and its last id
    cdef unsigned long long[::1] places  # the same
    cdef bint has_place
    cdef unsigned long long top_ms  # the last entry
    cdef unsigned long long top_seq
    cdef list counters
    cdef unsigned long long groups
    cdef bytes group
    cdef object pending_list  # of the group: array of id and moment, three numbers each
    cdef object count_list
    cdef unsigned long long[::1] pending_ids  # the same two
    cdef unsigned int[::1] pending_counts
    cdef unsigned long long pending_left
    cdef unsigned long long consumers
    cdef bytes consumer
    cdef unsigned long long claims_left
    cdef unsigned long long claimed
    cdef unsigned long long claim_moment
    cdef unsigned int claim_count
    cdef unsigned long long producers
    cdef unsigned long long messages
    cdef forget_stream(self)
    cdef int take_stream_head(self) except -1
    cdef int take_stream_node(self) except -1
    cdef int put_entries(self) except -1
    cdef int put_entry(self, unsigned long long ms, unsigned long long seq, pairs) except -1
    cdef int put_deleted(self, unsigned long long ms, unsigned long long seq) except -1
    cdef lengths(self, int count)
    cdef int take_counters(self) except -1
    cdef int put_setid(self, last, unsigned long long least, max_deleted) except -1
    cdef int put_last(self) except -1
    cdef int take_group(self) except -1
    cdef int put_group(self, list figures) except -1
    cdef unsigned long long big_endian(self, Py_ssize_t at) noexcept
    cdef int take_pending(self) except -1
    cdef int take_consumer(self) except -1
    cdef int take_claims(self) except -1
    cdef Py_ssize_t pending_place(self, unsigned long long ms, unsigned long long seq) except -2
    cdef bint is_there(self, unsigned long long ms, unsigned long long seq) except -1
    cdef int add_claim(self, Py_ssize_t place, bytes entry) except -1
    cdef int put_claims(self) except -1
    cdef int take_released(self) except -1
    cdef int take_producers(self) except -1
