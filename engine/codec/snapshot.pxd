from engine.codec.big_values cimport GIVES_OUT, NEEDS_MORE, BigValues
from engine.codec.bridge cimport ValueBridge
from engine.codec.crc64 cimport crc64_short
from engine.codec.key_recorder cimport KeyRecorder
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.rdb_walker cimport FINISHED, NEED_DATA

cdef class SnapshotTranscoder(BigValues):
    cdef Py_ssize_t block_bytes
    cdef int target_version
    cdef bint strings_as_set
    cdef bint checks_values
    cdef bint is_live
    cdef bint has_loadable
    cdef unsigned char[256] loadable
    cdef bytes shifted
    cdef public set late_hashes
    cdef public long long late_hashes_lost
    cdef public long long keys_expected
    cdef public long long functions_read
    cdef public bint is_finished
    cdef public dict aux
    cdef public ValueBridge bridge
    cdef bint keeps_field_ttls
    cdef bint skips_refused
    cdef public list refused
    cdef public long long bridged
    cdef int written_type
    cdef bytes last_member
    cdef KeyRecorder key_recorder
    cpdef feed(self, bytes chunk)
    cpdef next_block(self, bint flush)
    cpdef finish(self)
    cdef int take_key(self) except -1
    cdef int take_margin(self) except -1
    cdef value_with_later_fields(self)
    cdef fill_loadable(self)
    cdef choose_db(self)
    cdef int put_key(self) except -1
    cdef int put_set(self) except -1
    cdef int put_restore(self) except -1
    cdef check_inside(self)
    cdef bint bridge_value(self) except -1
    cdef int take_opcode(self) except -1
    cdef take_aux(self, Py_ssize_t at)
    cdef take_243(self)
    cdef note_slot_import(self)
    cdef take_member_expiry(self, bytes moment)
    cdef bytes released_function(self, Py_ssize_t at)
    cdef put_function(self, bytes code)
