from engine.codec.lzf cimport LzfStream
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.rdb_walker cimport RdbWalker
from engine.codec.value_items cimport ValueItems

cdef enum:
    MORE = 0
    DONE = 1
    FULL = 2
    REFUSED = 3
    HEAD = 0
    ITEMS = 1
    NODES = 2
    PACKED = 3
    RAW_STRING = 4
    LZF_STRING = 5
    END = 6
    BEFORE_VALUE = -1
    BEHIND_VALUE = -2

cdef class ValueExpander:
    cdef RdbWalker walker
    cdef OutBuffer out
    cdef Py_ssize_t block_bytes
    cdef Py_ssize_t value_limit
    cdef unsigned long long string_limit
    cdef bint keeps_field_ttls
    cdef bint drops_field_ttls
    cdef dict not_carried
    cdef OutBuffer batch
    cdef Py_ssize_t batch_items
    cdef int replies
    cdef str reason
    cdef bytes name
    cdef long long horizon_ms
    cdef int value_type
    cdef bint is_valkey
    cdef str kind
    cdef int stage
    cdef int next_stage
    cdef unsigned long long made
    cdef unsigned long long left  # items of a plain collection that have not been taken
    cdef unsigned long long nodes  # of a quicklist or a stream, the same
    cdef unsigned long long earliest  # of a type 24's field expiries, which count from it
    cdef unsigned long long total  # bytes of a string
    cdef unsigned long long packed_left  # bytes of a compressed one that have not been read
    cdef long long items_left
    cdef list moments  # (moment, field) of the batch
    cdef bint has_told_ttl
    cdef ValueItems reader
    cdef Py_ssize_t reader_base
    cdef LzfStream lzf
    cdef int begin(self, bytes name, long long horizon_ms) except -1
    cdef int run(self) except -1
    cdef int step(self) except -1
    cdef int refuse(self, str reason) except -1
    cdef int refuse_element(self, Py_ssize_t size) except -1
    cdef int finish_items(self) except -1
    cdef int take_head(self) except -1
    cdef int take_container(self, Py_ssize_t start) except -1
    cdef int open_reader(self, int value_type, Py_ssize_t start, Py_ssize_t end, int next_stage) except -1
    cdef int take_item(self) except -1
    cdef long long moment_of(self, unsigned long long number, Py_ssize_t at) except? -2
    cdef text_score(self, Py_ssize_t at, Py_ssize_t end)
    cdef int take_packed(self) except -1
    cdef Py_ssize_t item_bytes(self, item) except -1
    cdef list read(self, ValueItems reader)
    cdef int take_node(self) except -1
    cdef int put_text(self, Py_ssize_t at) except -1
    cdef Py_ssize_t text_bytes(self, Py_ssize_t start, Py_ssize_t end) noexcept
    cdef int put_score(self, score) except -1
    cdef int note_item(self) except -1
    cdef int note_moment(self, long long moment, bytes field) except -1
    cdef int tell_ttl(self, str what) except -1
    cdef int tell(self, str what, unsigned long long number) except -1
    cdef int put_name(self) except -1
    cdef int flush(self) except -1
    cdef int put_moments(self) except -1
    cdef int take_string_head(self) except -1
    cdef int put_whole(self, bytes text) except -1
    cdef int put_range(self, unsigned long long offset) except -1
    cdef int take_raw(self) except -1
    cdef int take_compressed(self) except -1
    cdef int end_of_string(self) except -1
