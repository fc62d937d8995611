from engine.codec.command_reader cimport KEPT_ARGUMENTS, CommandReader
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.slots cimport slot_of

cdef enum:
    SLOTS = 16384
    RULES = 2048

cdef unsigned long long[2048] RULE_NAMES
cdef int[2048] RULE_BYTES
cdef int[2048] RULE_FIRST
cdef int[2048] RULE_LAST
cdef int[2048] RULE_STEP

cdef unsigned long long name_code(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cdef Py_ssize_t find_rule(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept

cdef class SlotRouter(CommandReader):
    cdef OutBuffer store
    cdef OutBuffer out
    cdef Py_ssize_t capacity
    cdef int[::1] entry_slots
    cdef long long[::1] entry_ends
    cdef int[::1] order
    cdef int[::1] counts
    cdef int[::1] group_slots
    cdef long long[::1] group_starts
    cdef int[::1] group_replies
    cdef Py_ssize_t entries
    cdef bytes tags
    cdef bytes suffix
    cdef Py_ssize_t key_bytes
    cdef public bint is_transaction
    cdef public long long margin_since_ms
    cdef long long[::1] skip_table
    cdef bint has_skip
    cdef public long long skipped
    cdef public long long split_transactions
    cdef int transaction_slot
    cdef public bint in_transaction
    cdef bint is_split
    cdef public long long commands
    cdef public long long keys
    cdef public object event
    cdef public bytearray tainted
    cpdef bytes checkpoint_key(self, int slot)
    cpdef add(self, bytes data)
    cpdef bint run(self, long long offset) except -1
    cdef bint take_keyless(self) except -1
    cdef int slot_by(self, Py_ssize_t rule) noexcept
    cdef int take(self, int slot, long long offset) except -1
    cpdef put(self, int slot, bytes command)
    cdef int note_entry(self, int slot) except -1
    cdef list all_arguments(self)
    cpdef take_batch(self, long long offset, tuple every_slot)
    cdef int put_checkpoint(self, int slot, long long offset, tuple every_slot) except -1
