"""Where the keys of a command stand, by its name, for the hot path; the table is command_keys.py."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.codec.command_keys import routing_rules

if cython.compiled:
    from cython.cimports.libc.string import memcpy
else:
    WORD_BYTES = 8
    WORDS = 1024
    WORD_MASKS = [0] * (WORD_BYTES + 1)
    WORD_NAMES = [0] * WORDS
    WORD_RULES = [0] * WORDS
    RULES = 2048
    RULE_NAMES = [0] * RULES
    RULE_BYTES = [0] * RULES
    RULE_FIRST = [0] * RULES
    RULE_LAST = [0] * RULES
    RULE_STEP = [0] * RULES

WORD_FACTOR = 0x9E3779B97F4A7C15  # spreads the words over the table: 2^64 by the golden ratio


def name_code(data, start, count):
    """A number for a name, in any case."""
    code: cython.ulonglong = 0
    i: cython.Py_ssize_t
    for i in range(start, start + count):
        if cython.compiled:
            code = code * 31 + (data[i] & 0xDF)
        else:
            code = (code * 31 + (data[i] & 0xDF)) & 0xFFFFFFFFFFFFFFFF
    return code


def fill_rules():
    place: cython.Py_ssize_t
    code: cython.ulonglong
    for name, (first, last, step) in routing_rules().items():
        text = name.encode()
        if cython.compiled:
            pointer: cython.p_uchar = text
            code = name_code(pointer, 0, len(text))
        else:
            code = name_code(text, 0, len(text))
        place = (code ^ (code >> 9)) & (RULES - 1)
        while RULE_BYTES[place] != 0:
            place = (place + 1) & (RULES - 1)
        RULE_NAMES[place] = code
        RULE_BYTES[place] = len(text)
        RULE_FIRST[place] = first
        RULE_LAST[place] = last
        RULE_STEP[place] = step


def fill_words():
    """The same for names that fit into a word, which is compared at once."""
    rule: cython.Py_ssize_t
    count: cython.int
    place: cython.Py_ssize_t
    word: cython.ulonglong
    if cython.compiled:
        for count in range(WORD_BYTES + 1):
            masked: bytes = b"\xdf" * count + b"\0" * (WORD_BYTES - count)
            mask: cython.p_uchar = masked
            memcpy(cython.address(WORD_MASKS[count]), mask, WORD_BYTES)
        for name in routing_rules():
            text: bytes = name.encode()
            if len(text) <= WORD_BYTES:
                padded: bytes = text + b"\0" * WORD_BYTES
                pointer: cython.p_uchar = padded
                rule = find_rule(pointer, 0, len(text))
                word = word_of(pointer, 0, len(text))
                place = (word * WORD_FACTOR) >> 54
                while WORD_NAMES[place] != 0:
                    place = (place + 1) & (WORDS - 1)
                WORD_NAMES[place] = word
                WORD_RULES[place] = rule


def word_of(data, start, count):
    """A short name in upper case as a number; data has 8 bytes from `start` on."""
    word: cython.ulonglong = 0
    if cython.compiled:
        memcpy(cython.address(word), data + start, WORD_BYTES)
        word &= WORD_MASKS[count]
    return word


def find_rule(data, start, count):
    """Where a command's rule stands; -1: it has none."""
    code: cython.ulonglong = name_code(data, start, count)
    place: cython.Py_ssize_t = (code ^ (code >> 9)) & (RULES - 1)
    while RULE_BYTES[place] != 0:
        if RULE_NAMES[place] == code and RULE_BYTES[place] == count:
            return place
        place = (place + 1) & (RULES - 1)
    return -1


def rule_before_key(data, start, count):
    """The same as `find_rule` of a name that an argument follows, so that 8 bytes can be read."""
    word: cython.ulonglong
    place: cython.Py_ssize_t
    if cython.compiled and 0 < count <= WORD_BYTES:
        word = word_of(data, start, count)
        place = (word * WORD_FACTOR) >> 54
        while WORD_NAMES[place] != 0:
            if WORD_NAMES[place] == word and RULE_BYTES[WORD_RULES[place]] == count:
                return WORD_RULES[place]
            place = (place + 1) & (WORDS - 1)
        return -1
    return find_rule(data, start, count)


fill_rules()
fill_words()
