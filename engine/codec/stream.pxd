from engine.codec.out_buffer cimport OutBuffer

cdef class StreamTranscoder:
    cdef object plan
    cdef bytearray window
    cdef unsigned char* ptr
    cdef Py_ssize_t pos
    cdef Py_ssize_t end
    cdef Py_ssize_t command  # where the command at hand begins in the window
    cdef long long base_offset  # stream offset of the window's first byte
    cdef public long long offset
    cdef bytes replid
    cdef long long epoch
    cdef bytes checkpoint_key
    cdef bint has_checkpoint
    cdef bint absolute_expiry
    cdef long long clock_offset_ms
    cdef Py_ssize_t block_bytes
    cdef OutBuffer out
    cdef public int db
    cdef int block_db
    cdef bint is_open
    cdef public bint in_transaction
    cdef long long arguments
    cdef long long arguments_done
    cdef Py_ssize_t[12] argument_start
    cdef Py_ssize_t[12] argument_bytes
    cdef long long number
    cdef int block_replies
    cdef int block_commands
    cdef long long received_ms
    cdef public long long getack_offset
    cdef public long long flushes
    cdef public long long pings
    cdef public long long messages_dropped
    cdef public long long rewritten
    cdef bint is_late
    cdef public set late_keys
    cdef public long long late_keys_lost
    cdef bint has_late_keys
    cdef public long long pause_at
    cdef note_late_key(self, int db, bytes key)
    cdef follow_late_key(self, bytes name)
    cdef bind(self)
    cpdef feed(self, bytes chunk, long long received_ms, bint is_late)
    cpdef set take_late_keys(self)
    cdef out_of_step(self, message)
    cpdef next_block(self, bint flush)
    cdef int read_command(self) except -1
    cdef int read_inline(self) except -1
    cdef Py_ssize_t read_number(self, Py_ssize_t at) except -2
    cdef bint is_named(self, const unsigned char* name) noexcept
    cdef bint is_special(self) noexcept
    cdef bint has_relative_option(self, Py_ssize_t first) noexcept
    cdef bytes argument(self, Py_ssize_t index)
    cdef take_special(self)
    cdef copy_command(self)
    cdef put_command(self, list arguments)
    cdef take_select(self)
    cdef take_swapdb(self)
    cdef take_relative_time(self, bytes name)
    cdef with_moment(self, int first_option)
    cdef with_absolute_ttl(self)
    cdef moment_after(self, bytes text, bint is_seconds)
    cdef open_block(self)
    cdef close_block(self)
