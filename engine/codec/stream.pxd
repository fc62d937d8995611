from engine.codec.command_reader cimport KEPT_ARGUMENTS
from engine.codec.created_keys cimport record_created_keys
from engine.codec.key_recorder cimport KeyRecorder
from engine.codec.late_keys cimport LateKeys
from engine.codec.name_table cimport NameTable

cdef enum:
    ORDINARY = -1
    PING = 0
    SELECT = 1
    MULTI = 2
    EXEC = 3
    REPLCONF = 4
    PUBLISH = 5
    FLUSHALL = 6
    FLUSHDB = 7
    SWAPDB = 8
    FUNCTION = 9
    CLUSTER = 10
    SET = 11
    GETEX = 12
    SETEX = 13
    EXPIRE = 14
    RESTORE = 15
    EXPIREAT = 20
    FIELD_EXPIRY = 21
    MSETEX = 22
    MOVING = 30
    PERSIST = 40
    MAKING = 41

cdef NameTable NAMES

cdef class StreamTranscoder(LateKeys):
    cdef object plan
    cdef bint absolute_expiry
    cdef public bint in_transaction
    cdef public long long getack_offset
    cdef public long long flushes
    cdef public long long pings
    cdef public long long messages_dropped
    cdef public long long rewritten
    cdef bint is_late
    cdef int kind
    cdef public long long swaps
    cdef public list swapped
    cdef public long long pause_at
    cdef public bint holds_flushes
    cdef public bint flush_is_due
    cdef public int flushed_db
    cdef KeyRecorder key_recorder
    cdef bint records_keys
    cpdef feed(self, bytes chunk, long long received_ms, bint is_late)
    cpdef next_block(self, bint flush)
    cdef bint is_special(self) noexcept
    cdef note_result(self, bytes name)
    cdef Py_ssize_t expiry_option(self, Py_ssize_t first) noexcept
    cdef take_special(self)
    cdef refuse_whole_slots(self)
    cdef take_select(self)
    cdef take_swapdb(self)
    cdef take_expiry(self, int kind)
    cdef take_rare_expiry(self, int kind)
    cdef take_field_expiry(self, bytes name)
    cdef Py_ssize_t head_of(self, Py_ssize_t index) noexcept
    cdef with_absolute_ttl(self)
    cdef with_late_msetex(self)
