from engine.codec.command_reader cimport KEPT_ARGUMENTS, CommandReader
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.slot_index cimport INDEX_SHIFT
from engine.codec.slot_queue cimport (
    AHEAD,
    COMMANDS,
    PLACE,
    SIZE,
    SIZE_BITS,
    WRITTEN,
    SlotQueue,
    prefetch,
)
from engine.codec.slot_rules cimport RULE_FIRST, RULE_LAST, RULE_STEP, find_rule
from engine.codec.slots cimport slot_of

cdef enum:
    SLOTS = 16384
    HELD = 0

cdef enum:
    PLACE_BITS = 32

cdef bytes MULTI
cdef bytes EXEC

cdef class SlotRouter(CommandReader):
    cdef list queues
    cdef long long[::1] records
    cdef OutBuffer out
    cdef bytes tags
    cdef bytes suffix
    cdef Py_ssize_t key_bytes
    cdef public bint is_transaction
    cdef public long long margin_since_ms
    cdef public bint tells_db
    cdef long long[::1] skip_table
    cdef bint has_skip
    cdef public long long skipped
    cdef public long long split_transactions
    cdef int transaction_slot
    cdef public bint in_transaction
    cdef bint is_split
    cdef public object event
    cdef public bytearray tainted
    cdef bytes block
    cdef long long block_at
    cdef long long[::1] index
    cdef Py_ssize_t index_entries
    cdef Py_ssize_t index_at
    cpdef Py_ssize_t bytes_of(self, int number) except -1
    cpdef bint has_any(self, int number) except -1
    cpdef int add_queue(self) except -1
    cpdef int home_of(self, int slot) except -1
    cpdef bint settle(self, table, is_busy) except -1
    cpdef place(self, table)
    cpdef int move(self, int slot, int number) except -1
    cdef int set_home(self, int slot, int number) except -1
    cdef int give_away(self, int number) except -1
    cdef members_of(self, int number)
    cpdef bytes slot_data(self, int slot)
    cpdef compact(self, int number)
    cpdef bytes checkpoint_key(self, int slot)
    cpdef add(self, bytes data, index)
    cpdef bint run(self, long long offset) except -1
    cdef int take_indexed(self, long long offset) except -1
    cdef bint read(self, long long offset) except -1
    cdef bint take_keyless(self) except -1
    cdef int slot_by(self, Py_ssize_t rule) noexcept
    cdef bint is_to_take(self, int slot, long long offset) noexcept
    cpdef put(self, int slot, bytes command)
    cdef int append(self, int slot, bytes owner, const unsigned char* source, Py_ssize_t start, Py_ssize_t count) except -1
    cdef list all_arguments(self)
    cpdef take_batch(self, int number, long long offset, tuple every_slot, long long least)
    cdef tuple group_ending(self, long long offset, tuple every_slot, bint is_transaction)
