"""The RDB format as data: what follows each first byte, as a small program the walker runs.

Layouts: rdb.c, rdbSaveObject and rdbSaveRio of Redis 1.3 to 8.6 and Valkey to 9.1; the field widths stand
beside each record. A record is its first byte followed by its program; a key record is the type byte, the
key and the value's program. LEN is rdb.c's variable length, STR a string in any of its encodings.
"""

from __future__ import annotations

from typing import Final

# Operations of a program. LOOP reads a LEN and runs its body so often; JUMP targets are absolute.
END: Final = 0
LEN: Final = 1
STR: Final = 2
FIX: Final = 3  # operand: byte count
LOOP: Final = 4  # operand: where to go on (2 bytes, little endian) when the count is 0
AGAIN: Final = 5  # end of a LOOP's body
SCORE: Final = 6  # text double of type 3
ANNOTATED: Final = 7  # module values: LEN opcode and its value, until opcode 0
KEY: Final = 8  # the key's STR; the value starts behind it
OPTIONAL_STR: Final = 9  # LEN flag, and a STR if it is not 0
DOUBLE: Final = 11  # 8 bytes, a score; NaN is refused (a Redis 6.2 target dies of one)
MODULE_WHEN: Final = 10  # LEN annotation, which must be 2 (unsigned integer), and a LEN

Node = int | tuple[object, ...]

AUX: Final = 250
SELECTDB: Final = 254
EOF: Final = 255
EXPIRETIME: Final = 253
EXPIRETIME_MS: Final = 252
RESIZEDB: Final = 251
FREQ: Final = 249
IDLE: Final = 248
MODULE_AUX: Final = 247
FUNCTION_PRE_GA: Final = 246
FUNCTION2: Final = 245
SLOT_INFO: Final = 244
KEY_META: Final = 243  # Redis
SLOT_IMPORT: Final = 243  # Valkey

TYPE_STRING: Final = 0
TYPE_MODULE_PRE_GA: Final = 6
TYPE_MODULE: Final = 7

STREAM_TYPES: Final = bytes(number in (15, 19, 21, 26, 27) for number in range(256))

NAMES: Final[dict[int, str]] = {
    0: "string", 1: "list", 2: "set", 3: "sorted set (text scores)", 4: "hash", 5: "sorted set",
    6: "module value (4.0 release candidates)", 7: "module value", 9: "hash (zipmap)",
    10: "list (ziplist)", 11: "set (intset)", 12: "sorted set (ziplist)", 13: "hash (ziplist)",
    14: "list (quicklist)", 15: "stream", 16: "hash (listpack)", 17: "sorted set (listpack)",
    18: "list (quicklist 2)", 19: "stream (7.0)", 20: "set (listpack)", 21: "stream (7.2)",
    22: "hash with field TTLs (7.4 release candidates, or Valkey 9)",
    23: "hash with field TTLs, listpack (7.4 release candidates)", 24: "hash with field TTLs",
    25: "hash with field TTLs, listpack", 26: "stream (8.6)", 27: "stream (8.8)", 64: "KeyDB cron",
}  # fmt: skip


def _loop(*body: Node) -> tuple[object, ...]:
    return ("loop", *body)


def _fix(count: int) -> tuple[object, ...]:
    return ("fix", count)


def _stream(version: int) -> tuple[Node, ...]:
    """Streams 1 to 5 (types 15, 19, 21, 26, 27); rdb.c rdbSaveObject, case OBJ_STREAM."""
    group: tuple[Node, ...] = (STR, LEN, LEN)  # name, last id ms and seq
    if version >= 2:
        group += (LEN,)  # entries_read
    group += (_loop(_fix(16), _fix(8), LEN),)  # pending: id, delivery time ms, delivery count
    consumer: tuple[Node, ...] = (STR, _fix(8))  # name, seen time ms
    if version >= 3:
        consumer += (_fix(8),)  # active time ms
    group += (_loop(*consumer, _loop(_fix(16))),)
    if version >= 5:
        group += (_loop(_fix(16)),)  # NACK zone
    nodes: tuple[Node, ...] = (_loop(STR, STR), LEN, LEN, LEN)  # nodes; length, last id
    if version >= 2:
        nodes += (LEN,) * 5  # first id, max deleted id, entries added
    nodes += (_loop(*group),)
    if version >= 4:
        producers = _loop(STR, _loop(STR, LEN, LEN))
        nodes += (LEN, LEN, producers, LEN, LEN)
    return nodes


_PAIRS = _loop(STR, STR)
_COMMON_TYPES: dict[int, tuple[Node, ...]] = {
    0: (STR,),
    1: (_loop(STR),),
    2: (_loop(STR),),
    3: (_loop(STR, SCORE),),
    4: (_PAIRS,),
    5: (_loop(STR, DOUBLE),),
    7: (LEN, ANNOTATED),  # module id, values
    9: (STR,),
    10: (STR,),
    11: (STR,),
    12: (STR,),
    13: (STR,),
    14: (_loop(STR),),
    15: _stream(1),
    16: (STR,),
    17: (STR,),
    18: (_loop(LEN, STR),),
    19: _stream(2),
    20: (STR,),
    21: _stream(3),
    64: (STR, _fix(8), _fix(8), _loop(STR), _loop(STR)),
}
_REDIS_TYPES: dict[int, tuple[Node, ...]] = {
    **_COMMON_TYPES,
    22: (_loop(LEN, STR, STR),),
    23: (STR,),
    24: (_fix(8), _loop(LEN, STR, STR)),
    25: (_fix(8), STR),
    26: _stream(4),
}
_RDB_14_TYPES: dict[int, tuple[Node, ...]] = {27: _stream(5)}
_VALKEY_TYPES: dict[int, tuple[Node, ...]] = {**_COMMON_TYPES, 22: (_loop(STR, STR, _fix(8)),)}
_COMMON_OPCODES: dict[int, tuple[Node, ...]] = {
    SELECTDB: (LEN,),
    EXPIRETIME: (_fix(4),),
    EXPIRETIME_MS: (_fix(8),),
    RESIZEDB: (LEN, LEN),
    AUX: (STR, STR),
    FREQ: (_fix(1),),
    IDLE: (LEN,),
    MODULE_AUX: (LEN, MODULE_WHEN, ANNOTATED),
    FUNCTION_PRE_GA: (STR, STR, OPTIONAL_STR, STR),
    FUNCTION2: (STR,),
    SLOT_INFO: (LEN, LEN, LEN),
    EOF: (),
}
_REDIS_OPCODES = {**_COMMON_OPCODES, KEY_META: (_loop(_fix(4), ANNOTATED),)}
_VALKEY_OPCODES = {**_COMMON_OPCODES, SLOT_IMPORT: (STR, _loop(LEN, LEN))}


class _Assembler:
    """Turns nodes into bytes; a start of 0 means 'no such record', so the program begins with END."""

    def __init__(self) -> None:
        self.code = bytearray([END])

    def record(self, nodes: tuple[Node, ...]) -> int:
        start = len(self.code)
        self._emit(nodes)
        self.code.append(END)
        return start

    def _emit(self, nodes: tuple[object, ...]) -> None:
        for node in nodes:
            if isinstance(node, int):
                self.code.append(node)
            elif isinstance(node, tuple) and node[0] == "fix":
                assert isinstance(node[1], int)
                self.code += bytes([FIX, node[1]])
            else:
                assert isinstance(node, tuple)
                at = len(self.code)
                self.code += bytes([LOOP, 0, 0])
                self._emit(node[1:])
                self.code.append(AGAIN)
                self.code[at + 1 : at + 3] = len(self.code).to_bytes(2, "little")


def _assemble() -> tuple[bytes, dict[str, list[int]]]:
    assembler = _Assembler()
    starts: dict[str, list[int]] = {}
    families = {
        "redis": (_REDIS_TYPES, _REDIS_OPCODES),
        "redis-14": ({**_REDIS_TYPES, **_RDB_14_TYPES}, _REDIS_OPCODES),
        "valkey": (_VALKEY_TYPES, _VALKEY_OPCODES),
    }
    for family, (types, opcodes) in families.items():
        table = [0] * 256
        for number, nodes in types.items():
            table[number] = assembler.record((KEY, *nodes))
        for number, nodes in opcodes.items():
            table[number] = assembler.record(nodes)
        starts[family] = table
    return bytes(assembler.code), starts


PROGRAM, STARTS = _assemble()

KNOWN_REDIS_VERSIONS: Final = range(1, 15)
KNOWN_VALKEY_VERSIONS: Final = range(80, 82)
FIRST_VERSION_WITH_CRC: Final = 5
FIRST_OPCODE: Final = 243  # value types lie below, in every version so far
