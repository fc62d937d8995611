"""Which keys a replicated command may create or overwrite: argument 1, unless the table here says otherwise.

Naming a key that the command turns out not to create does no harm; leaving one out does. Modules' commands
follow the rule or stand in the table too. Keys that a script of a source before 5.0 writes without naming
them among its KEYS cannot be known.
"""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

# The rules. FIRST is that of every command that is not in the table.
if not cython.compiled:
    FIRST = 0
    NONE = 1
    SECOND = 2
    EVERY_SECOND = 3  # key value key value …
    EVERY_THIRD = 4  # key path value key path value …
    COUNTED = 5  # name text numkeys key …
    COUNTED_PAIRS = 6  # name numkeys key value key value …
    STORE_OPTION = 7  # … STORE key
    COPY = 8  # name source destination [DB n]
    MOVE = 9  # name key n
    SELECT = 10
    SWAPDB = 11
    FLUSHDB = 12
    FLUSHALL = 13
    TABLE_SIZE = 512
    MAX_NAME_BYTES = 24

RULES = {
    NONE: (
        # they delete, shorten, or change what is there
        "DEL UNLINK DELEX DELIFEQ GETDEL EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST TOUCH "
        "LPOP RPOP LTRIM LREM LMPOP BLPOP BRPOP BLMPOP SREM SPOP HDEL HGETDEL "
        "ZREM ZPOPMIN ZPOPMAX ZMPOP BZPOPMIN BZPOPMAX BZMPOP ZREMRANGEBYRANK ZREMRANGEBYSCORE "
        "ZREMRANGEBYLEX XACK XDEL XDELEX XACKDEL XTRIM XREADGROUP XREAD "
        # they have no keys
        "PING MULTI EXEC DISCARD REPLCONF PUBLISH SPUBLISH SCRIPT FUNCTION CONFIG CLIENT CLUSTER ACL "
        "DEBUG MEMORY OBJECT MODULE WAIT AUTH HELLO OPINFO"
    ),
    SECOND: ("RENAME RENAMENX SMOVE RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE BITOP XGROUP XINFO PFDEBUG"),
    EVERY_SECOND: "MSET MSETNX",
    EVERY_THIRD: "JSON.MSET TS.MADD",
    COUNTED: "EVAL EVALSHA FCALL EVAL_RO EVALSHA_RO FCALL_RO",
    COUNTED_PAIRS: "MSETEX",
    STORE_OPTION: "SORT GEORADIUS GEORADIUSBYMEMBER",
    COPY: "COPY",
    MOVE: "MOVE",
    SELECT: "SELECT",
    SWAPDB: "SWAPDB",
    FLUSHDB: "FLUSHDB",
    FLUSHALL: "FLUSHALL",
}

if not cython.compiled:
    NAMES = [0] * TABLE_SIZE
    NAME_RULES = [0] * TABLE_SIZE
    ENDS = [0] * 1024


def fill_table():
    """Names stand in an open table under `code`, which tells all of at most twelve letters apart."""
    code: cython.ulonglong
    place: cython.Py_ssize_t
    for rule, names in RULES.items():
        for name in names.encode().split():
            code = 0
            for letter in name:
                code = with_letter(code, letter)
            place = (code ^ (code >> 9)) & (TABLE_SIZE - 1)
            while NAMES[place] != 0:
                place = (place + 1) & (TABLE_SIZE - 1)
            NAMES[place] = code
            NAME_RULES[place] = rule
            ENDS[(name[0] & 31) << 5 | (name[len(name) - 1] & 31)] |= 1 << len(name)


def with_letter(code, letter):
    """The code of a name, one letter on; in any case."""
    if cython.compiled:
        return code * 31 + (letter & 0xDF)
    return (code * 31 + (letter & 0xDF)) & 0xFFFFFFFFFFFFFFFF


fill_table()


def rule_of(data, start, count):
    """The rule of the command whose name is `count` bytes of `data` from `start`."""
    code: cython.ulonglong = 0
    i: cython.Py_ssize_t
    place: cython.Py_ssize_t
    if count == 0 or count > MAX_NAME_BYTES:
        return FIRST
    # Most commands have nothing in the table with their first letter, last letter and length.
    if not ENDS[(data[start] & 31) << 5 | (data[start + count - 1] & 31)] >> count & 1:
        return FIRST
    for i in range(start, start + count):
        code = with_letter(code, data[i])
    place = (code ^ (code >> 9)) & (TABLE_SIZE - 1)
    while NAMES[place] != 0:
        if NAMES[place] == code:
            return NAME_RULES[place]
        place = (place + 1) & (TABLE_SIZE - 1)
    return FIRST


def record_created_keys(reader, recorder):
    """Note the keys that the reader's command may create; take over its SELECT, tell of SWAPDB and flushes."""
    rule: cython.int
    count: cython.longlong = reader.arguments_done
    if count < 1:
        return 0
    rule = rule_of(reader.ptr, reader.argument_start[0], reader.argument_bytes[0])
    if rule == FIRST:
        if count > 1:
            recorder.note(reader.ptr, reader.argument_start[1], reader.argument_bytes[1])
    elif rule == NONE:
        return 0
    elif rule == SECOND:
        if count > 2:
            recorder.note(reader.ptr, reader.argument_start[2], reader.argument_bytes[2])
    elif rule == EVERY_SECOND:
        note_every(reader, recorder, 1, 2, count)
    elif rule == EVERY_THIRD:
        note_every(reader, recorder, 1, 3, count)
    elif rule == COUNTED:
        note_every(reader, recorder, 3, 1, 3 + number_at(reader, 2))
    elif rule == COUNTED_PAIRS:
        note_every(reader, recorder, 2, 2, 2 + 2 * number_at(reader, 1))
    elif rule == STORE_OPTION:
        note_stored(reader, recorder)
    else:
        record_special(reader, recorder, rule)
    return 0


def number_at(reader, index):
    """The number that argument `index` is; 0 if it is none."""
    text = reader.argument(index)
    return int(text) if text.isdigit() and len(text) < 10 else 0


def note_every(reader, recorder, first, step, stop):
    """Note arguments first, first + step … below `stop`, of which there may be more than the reader keeps."""
    index: cython.longlong = 0
    at: cython.Py_ssize_t = reader.command
    size: cython.Py_ssize_t
    at = line_end(reader, at)
    while index < stop and at < reader.pos:
        size = length_at(reader, at)
        at = line_end(reader, at)
        if at + size + 2 > reader.pos:
            break
        if index >= first and (index - first) % step == 0:
            recorder.note(reader.ptr, at, size)
        at += size + 2
        index += 1
    return 0


def note_stored(reader, recorder):
    """Note what follows STORE or STOREDIST, wherever they stand: a pattern of that name does no harm."""
    index: cython.longlong = 0
    at: cython.Py_ssize_t = line_end(reader, reader.command)
    size: cython.Py_ssize_t
    is_next: cython.bint = False
    while at < reader.pos:
        size = length_at(reader, at)
        at = line_end(reader, at)
        if at + size + 2 > reader.pos:
            break
        if is_next:
            recorder.note(reader.ptr, at, size)
        is_next = False
        if index >= 2 and (size == 5 or size == 9):
            word = bytes(reader.window[at : at + size]).upper()
            is_next = word == b"STORE" or word == b"STOREDIST"
        at += size + 2
        index += 1
    return 0


def line_end(reader, at):
    """Where the line at `at` (digits, read once already) is over."""
    while at < reader.pos and reader.ptr[at] != 10:
        at += 1
    return at + 1


def length_at(reader, at):
    """The number behind the mark at `at`."""
    size: cython.Py_ssize_t = 0
    at += 1
    while at < reader.pos and 48 <= reader.ptr[at] <= 57:
        size = size * 10 + reader.ptr[at] - 48
        at += 1
    return size


def record_special(reader, recorder, rule):
    """The commands that name a database."""
    offset = reader.base_offset + reader.pos
    first = reader.argument(1)
    second = reader.argument(2)
    if rule == SELECT:
        if is_db(first):
            recorder.select(int(first))
    elif rule == SWAPDB:
        if is_db(first) and is_db(second) and int(first) != int(second):
            recorder.note_swap(int(first), int(second), offset)
    elif rule == FLUSHDB:
        recorder.note_flush(recorder.db, offset)
    elif rule == FLUSHALL:
        recorder.note_flush(None, offset)
    elif rule == MOVE:
        if is_db(second):
            note_in(recorder, int(second), first)
    elif reader.argument(3).upper() == b"DB" and is_db(reader.argument(4)):
        note_in(recorder, int(reader.argument(4)), second)
    elif reader.argument(4).upper() == b"DB" and is_db(reader.argument(5)):  # behind REPLACE
        note_in(recorder, int(reader.argument(5)), second)
    else:
        recorder.note_bytes(second)
    return 0


def is_db(text):
    """Whether an argument is the number of a database."""
    return text.isdigit() and len(text) < 10


def note_in(recorder, db, name):
    """Note a name of another database than the one selected."""
    selected = recorder.db
    recorder.select(db)
    recorder.note_bytes(name)
    recorder.select(selected)
    return 0
