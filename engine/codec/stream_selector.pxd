from engine.codec.command_reader cimport KEPT_ARGUMENTS, MARK_BIAS, MARK_BYTES, CommandReader
from engine.codec.key_filter cimport KeyFilter
from engine.codec.name_owners cimport NameOwners
from engine.codec.out_buffer cimport OutBuffer
from engine.codec.slot_rules cimport RULE_FIRST, RULE_LAST, RULE_STEP, RULES, find_rule

cdef enum:
    KEEP = 0
    KEEP_ANYWHERE = 1
    RENAME = 2
    LEAVE_OUT = 3
    LOOK_AT = 4

cdef class StreamSelector(CommandReader):
    cdef OutBuffer out
    cdef object selection
    cdef KeyFilter keys
    cdef object commands
    cdef frozenset excluded
    cdef NameOwners owners
    cdef bint has_owners
    cdef bint is_about_keys
    cdef bytes added
    cdef Py_ssize_t stripped_bytes
    cdef bint renames
    cdef bint skips_refused
    cdef public long long left_out
    cdef public list refused
    cdef public object failure
    cdef long long shown_offset  # where a transcoder stands that has read what is put out
    cdef int shown_db
    cdef int sent_db
    cdef int target_db  # for the one selected at the source; -1: it is left out
    cdef unsigned char[2048] looked_at
    cdef note_name(self, bytes name)
    cdef choose_db(self, int db)
    cpdef bytes select(self, bytes chunk)
    cdef int verdict(self) except -1
    cdef int verdict_of_several(self, Py_ssize_t rule) noexcept
    cdef Py_ssize_t second_argument(self) noexcept
    cdef Py_ssize_t size_at(self, Py_ssize_t at) noexcept
    cdef Py_ssize_t text_after(self, Py_ssize_t at) noexcept
    cdef put_mark(self, long long offset)
    cdef int begin(self, bint needs_db) except -1
    cdef int put_select(self) except -1
    cdef int put_run(self, Py_ssize_t run) except -1
    cdef int put_renamed(self) except -1
    cdef int set_mark(self, Py_ssize_t mark) except -1
    cdef int show_end(self) except -1
    cdef take_inline(self)
    cdef take(self)
    cdef take_select(self, list words)
    cdef put_instead(self, written, list words)
    cdef refuse(self, list words, why)
