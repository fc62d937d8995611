from engine.codec.command_reader cimport CommandReader
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.slot_index cimport SlotIndex

cdef class BlockWriter(CommandReader):
    cdef public long long offset
    cdef bytes replid
    cdef long long epoch
    cdef bytes checkpoint_key
    cdef bint has_checkpoint
    cdef bytes ledger
    cdef public long long serial
    cdef public long long block_offset
    cdef public long long margin_since_ms
    cdef public Py_ssize_t block_bytes
    cdef bint replaces_libraries
    cdef list cut_offsets
    cdef long long next_cut
    cdef OutBuffer out
    cdef public int db
    cdef int block_db
    cdef bint is_open
    cdef int block_replies
    cdef int block_commands
    cdef bint moves_keys
    cdef bint has_index
    cdef SlotIndex index
    cpdef set_replid(self, str replid)
    cpdef cut_at(self, offsets)
    cdef int pass_cuts(self) except -1
    cpdef checkpoint_block(self)
    cdef copy_command(self)
    cdef put_command(self, list arguments)
    cdef take_function(self)
    cdef put_token(self)
    cdef open_block(self)
    cdef close_block(self)
