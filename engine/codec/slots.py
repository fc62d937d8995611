"""Cluster slots: CRC16 of a key or of its hash tag, modulo 16384 (cluster.c, keyHashSlot; crc16.c, XMODEM)."""

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython

SLOTS = 16384
TAG_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789"
MADE_TAGS = []  # they take 25 ms to find

if cython.compiled:
    from cython.cimports.libc.string import memchr
else:
    CRC_TABLE = [0] * 2048


def fill_crc_table():
    """Of a byte with none to seven bytes 0 behind it, so that eight bytes go at once."""
    n: cython.int
    bit: cython.int
    crc: cython.uint
    for n in range(256):
        crc = n << 8
        for bit in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        CRC_TABLE[n] = crc & 0xFFFF
    for n in range(1792):
        crc = CRC_TABLE[n]
        CRC_TABLE[n + 256] = ((crc << 8) & 0xFFFF) ^ CRC_TABLE[crc >> 8]


fill_crc_table()


def slot_of(data, start, count):
    """The slot of the key of `count` bytes of `data` from `start`."""
    stop: cython.Py_ssize_t = start + count
    i: cython.Py_ssize_t
    crc: cython.uint = 0
    has_brace: cython.bint
    if cython.compiled:
        has_brace = memchr(data + start, 123, count) != cython.NULL
    else:
        has_brace = 123 in data[start:stop]
    if has_brace:  # what follows the first '{' up to the next '}' counts if it is not empty
        i = start
        while data[i] != 123:
            i += 1
        first: cython.Py_ssize_t = i + 1
        while i < stop and data[i] != 125:
            i += 1
        if i < stop and i > first:
            start = first
            stop = i
    i = start
    while i + 8 <= stop:  # none waits for the one before
        crc = (
            CRC_TABLE[1792 + (data[i] ^ (crc >> 8))]
            ^ CRC_TABLE[1536 + (data[i + 1] ^ (crc & 0xFF))]
            ^ CRC_TABLE[1280 + data[i + 2]]
            ^ CRC_TABLE[1024 + data[i + 3]]
            ^ CRC_TABLE[768 + data[i + 4]]
            ^ CRC_TABLE[512 + data[i + 5]]
            ^ CRC_TABLE[256 + data[i + 6]]
            ^ CRC_TABLE[data[i + 7]]
        )
        i += 8
    if i + 4 <= stop:
        crc = (
            CRC_TABLE[768 + (data[i] ^ (crc >> 8))]
            ^ CRC_TABLE[512 + (data[i + 1] ^ (crc & 0xFF))]
            ^ CRC_TABLE[256 + data[i + 2]]
            ^ CRC_TABLE[data[i + 3]]
        )
        i += 4
    while i < stop:
        crc = ((crc << 8) & 0xFFFF) ^ CRC_TABLE[(crc >> 8) ^ data[i]]
        i += 1
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
