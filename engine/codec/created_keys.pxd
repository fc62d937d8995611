from engine.codec.command_reader cimport CommandReader
from engine.codec.key_recorder cimport KeyRecorder

cdef enum:
    FIRST = 0
    NONE = 1
    SECOND = 2
    EVERY_SECOND = 3
    EVERY_THIRD = 4
    COUNTED = 5
    COUNTED_PAIRS = 6
    STORE_OPTION = 7
    COPY = 8
    MOVE = 9
    SELECT = 10
    SWAPDB = 11
    FLUSHDB = 12
    FLUSHALL = 13
    TABLE_SIZE = 512
    MAX_NAME_BYTES = 24

cdef unsigned long long[512] NAMES
cdef unsigned char[512] NAME_RULES
cdef unsigned int[1024] ENDS

cdef unsigned long long with_letter(unsigned long long code, unsigned char letter) noexcept
cdef int rule_of(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cdef int record_created_keys(CommandReader reader, KeyRecorder recorder) except -1
cdef long long number_at(CommandReader reader, Py_ssize_t index) except -1
cdef int note_every(
    CommandReader reader, KeyRecorder recorder, long long first, long long step, long long stop
) except -1
cdef int note_stored(CommandReader reader, KeyRecorder recorder) except -1
cdef Py_ssize_t line_end(CommandReader reader, Py_ssize_t at) noexcept
cdef Py_ssize_t length_at(CommandReader reader, Py_ssize_t at) noexcept
cdef int record_special(CommandReader reader, KeyRecorder recorder, int rule) except -1
cdef bint is_db(bytes text) noexcept
cdef int note_in(KeyRecorder recorder, int db, bytes name) except -1
