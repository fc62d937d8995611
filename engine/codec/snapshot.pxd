from engine.codec.bridge cimport ValueBridge
from engine.codec.crc64 cimport crc64_short
from engine.codec.key_recorder cimport KeyRecorder
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.rdb_walker cimport FINISHED, NEED_DATA, RdbWalker

cdef class SnapshotTranscoder(RdbWalker):
    cdef object plan
    cdef OutBuffer out
    cdef Py_ssize_t block_bytes
    cdef int target_version
    cdef bint is_replace
    cdef bint strings_as_set
    cdef bint checks_values
    cdef bint has_loadable
    cdef unsigned char[256] loadable
    cdef int db  # of the source
    cdef int target_db
    cdef long long expire_at_ms
    cdef long long idle_seconds
    cdef int frequency
    cdef bytes key_metadata
    cdef bytes shifted
    cdef long long margin_ms
    cdef public long long horizon_ms
    cdef public long long margined
    cdef public set late_hashes
    cdef public long long late_hashes_lost
    cdef int block_replies
    cdef int block_keys
    cdef public long long keys_read
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
    cdef bytes last_hash  # the key before, if it is a hash that KeyDB may have written
    cdef bytes last_member
    cdef KeyRecorder key_recorder
    cdef bint records_keys
    cdef public dict not_carried
    cpdef feed(self, bytes chunk)
    cpdef next_block(self, bint flush)
    cpdef finish(self)
    cdef take_block(self)
    cdef int take_key(self) except -1
    cdef int take_margin(self) except -1
    cdef value_with_later_fields(self)
    cdef fill_loadable(self)
    cdef put_select(self)
    cdef choose_db(self)
    cdef bytes target_name(self)
    cdef int put_key(self) except -1
    cdef int note_key(self) except -1
    cdef int put_set(self) except -1
    cdef int put_restore(self) except -1
    cdef check_inside(self)
    cdef forget_attributes(self)
    cdef bint bridge_value(self) except -1
    cdef refuse(self, bytes key, what, why)
    cdef count(self, kind, number)
    cdef int take_opcode(self) except -1
    cdef take_aux(self, Py_ssize_t at)
    cdef take_243(self)
    cdef take_member_expiry(self, bytes moment)
    cdef bytes released_function(self, Py_ssize_t at)
    cdef put_function(self, bytes code)
