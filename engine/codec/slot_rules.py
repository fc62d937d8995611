"""Where the keys of a command stand, by its name, for the hot path; the table is command_keys.py."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

from engine.codec.command_keys import routing_rules

if not cython.compiled:
    RULES = 2048
    RULE_NAMES = [0] * RULES
    RULE_BYTES = [0] * RULES
    RULE_FIRST = [0] * RULES
    RULE_LAST = [0] * RULES
    RULE_STEP = [0] * RULES


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


fill_rules()


def find_rule(data, start, count):
    """Where a command's rule stands; -1: it has none."""
    code: cython.ulonglong = name_code(data, start, count)
    place: cython.Py_ssize_t = (code ^ (code >> 9)) & (RULES - 1)
    while RULE_BYTES[place] != 0:
        if RULE_NAMES[place] == code and RULE_BYTES[place] == count:
            return place
        place = (place + 1) & (RULES - 1)
    return -1
