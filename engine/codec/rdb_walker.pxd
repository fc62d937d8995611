cdef enum:
    NEED_DATA = 0
    RECORD = 1
    FINISHED = 2

cdef class RdbWalker:
    cdef bytearray window
    cdef unsigned char* ptr
    cdef const unsigned char* program
    cdef int[256] starts
    cdef unsigned long long[4] remaining
    cdef int[4] body
    cdef public Py_ssize_t base  # RDB offset of the window's first byte
    cdef public Py_ssize_t pos  # next byte to read, as a window position like all that follow
    cdef Py_ssize_t end
    cdef Py_ssize_t record
    cdef Py_ssize_t value_start
    cdef Py_ssize_t text_start
    cdef Py_ssize_t text_end
    cdef Py_ssize_t value_limit
    cdef Py_ssize_t wanted  # window position where the string ends whose bytes are missing; 0: it is no string
    cdef Py_ssize_t skip_left  # bytes of a string to be passed over that have not come
    cdef bytes held_key  # of a value whose record is not in the window any more
    cdef Py_ssize_t crc_pos
    cdef unsigned long long number
    cdef unsigned long long crc
    cdef int pc
    cdef int depth
    cdef int op
    cdef int state  # 0 header, 1 between records, 2 in a record, 3 finished
    cdef bint is_empty
    cdef bint is_naming
    cdef public int version
    cdef public bint is_valkey
    cdef bind(self)
    cdef feed_bytes(self, bytes chunk)
    cdef add_to_crc(self, Py_ssize_t upto)
    cdef corrupt(self, message, Py_ssize_t at)
    cdef int step(self) except -1
    cdef read_header(self)
    cdef unknown_record(self, int op)
    cdef too_large(self, unsigned long long count)
    cdef int read_end(self) except -1
    cdef Py_ssize_t read_length(self, Py_ssize_t at) except -2
    cdef Py_ssize_t skip_string(self, Py_ssize_t at) except -2
    cdef check_length(self, unsigned long long length, Py_ssize_t at)
    cdef int run_program(self) except -1
    cdef check_score(self, Py_ssize_t at)
    cdef Py_ssize_t skip_score(self, Py_ssize_t at) except -2
    cdef Py_ssize_t skip_annotated(self, Py_ssize_t at) except -2
    cdef bytes text_at(self, Py_ssize_t at)
    cdef bytes key_text(self)
    cdef begin_skipping(self)
    cdef skip_items(self, unsigned long long left)
    cdef int skip_some(self) except -1
