"""Cluster slots: CRC16 of a key or of its hash tag, modulo 16384 (cluster.c, keyHashSlot; crc16.c, XMODEM)."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

SLOTS = 16384
TAG_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789"
MADE_TAGS = []  # they take 25 ms to find

if not cython.compiled:
    CRC_TABLE = [0] * 256


def fill_crc_table():
    n: cython.int
    bit: cython.int
    crc: cython.uint
    for n in range(256):
        crc = n << 8
        for bit in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        CRC_TABLE[n] = crc & 0xFFFF


fill_crc_table()


def slot_of(data, start, count):
    """The slot of the key of `count` bytes of `data` from `start`."""
    first: cython.Py_ssize_t = start
    stop: cython.Py_ssize_t = start + count
    i: cython.Py_ssize_t
    crc: cython.uint = 0
    while first < stop and data[first] != 123:
        first += 1
    if first < stop:  # the first '{'; what follows up to the next '}' counts if it is not empty
        i = first + 1
        while i < stop and data[i] != 125:
            i += 1
        if i < stop and i > first + 1:
            start = first + 1
            stop = i
    for i in range(start, stop):
        crc = ((crc << 8) & 0xFFFF) ^ CRC_TABLE[((crc >> 8) ^ data[i]) & 0xFF]
    return crc & 0x3FFF


def key_slot(key):
    """The slot of a key (bytes)."""
    if cython.compiled:
        pointer: cython.p_uchar = key
        return slot_of(pointer, 0, len(key))
    return slot_of(key, 0, len(key))


def slot_tags():
    """For each slot four letters whose slot it is: 65,536 bytes, those of slot n from 4 n on. Always the same."""
    if MADE_TAGS:
        return MADE_TAGS[0]
    tags = bytearray(4 * SLOTS)
    found: cython.int = 0
    number: cython.int = 0
    rest: cython.int
    slot: cython.int
    k: cython.int
    text = bytearray(4)
    while found < SLOTS:
        rest = number
        for k in range(4):
            text[k] = TAG_LETTERS[rest % 36]
            rest //= 36
        number += 1
        slot = key_slot(bytes(text))
        if tags[4 * slot] == 0:
            tags[4 * slot : 4 * slot + 4] = text
            found += 1
    MADE_TAGS.append(bytes(tags))
    return MADE_TAGS[0]
