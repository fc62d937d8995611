"""Whether a stream value is sound: its nodes, its groups, and who waits for which entry.

    LEN nodes, each: STR master id (16 bytes), STR listpack
    LEN length, LEN LEN last id
    [from generation 2: LEN LEN first id, LEN LEN max deleted id, LEN entries added]
    LEN groups, each:
        STR name, LEN LEN last id, [2: LEN entries read]
        LEN pending, each: 16 byte id, 8 byte delivery time, LEN delivery count
        LEN consumers, each: STR name, 8 byte seen time, [3: 8 byte active time],
            LEN pending, each: 16 byte id, which the group has as well
        [5: LEN released, each: 16 byte id]
    [4: LEN duration, LEN entries, LEN producers, each: STR, LEN n, n x (STR, LEN, LEN); LEN, LEN]

Generations 1 to 5 are types 15, 19, 21, 26 and 27. Sources: rdb.c, rdbSaveObject and rdbLoadObject;
t_stream.c, streamAppendItem, streamValidateListpackIntegrity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import cython
except ModuleNotFoundError:
    from engine.codec import cython_shim as cython
if TYPE_CHECKING:
    from engine.codec.value_check import ValueChecker

ID_BYTES = 16
SAME_FIELDS = 2  # flag of an entry: its fields are those of the node's master entry, and left out


def check_stream(value: ValueChecker, generation: cython.int) -> cython.int:
    """Go over the stream that begins where `value` stands, to its end.

    Raises:
        CorruptRdb: it is not sound; the offset counts in the value.
    """
    nodes: cython.ulonglong = value.count(ID_BYTES + 2)
    groups: cython.ulonglong
    producers: cython.ulonglong
    ids: cython.ulonglong
    i: cython.int
    seen: set[bytes] = set()
    while nodes > 0:
        nodes -= 1
        check_node(value, seen)
    for i in range(3 if generation == 1 else 8):
        value.length()
    groups = value.count(5)
    seen = set()
    while groups > 0:
        groups -= 1
        check_group(value, generation, seen)
    if generation >= 4:
        value.length()
        value.length()
        producers = value.count(2)
        while producers > 0:
            producers -= 1
            value.skip_string()
            ids = value.count(3)
            while ids > 0:
                ids -= 1
                value.skip_string()
                value.length()
                value.length()
        value.length()
        value.length()
    return 0


def add_once(
    seen: set[bytes], name: bytes, value: ValueChecker, at: cython.Py_ssize_t, what: str
) -> cython.int:
    if name in seen:
        raise value.corrupt(f"stream: the same {what} twice", at)
    seen.add(name)
    return 0


def check_node(value: ValueChecker, seen: set[bytes]) -> cython.int:
    """A node: count, deleted, number of fields, fields, 0; then count + deleted entries."""
    at: cython.Py_ssize_t = value.at
    master_id: bytes = value.string()
    if len(master_id) != ID_BYTES:
        raise value.corrupt(f"stream: node id of {len(master_id)} bytes", at)
    add_once(seen, master_id, value, at, "node")
    node: cython.Py_ssize_t = value.at
    value.open_packed(value.listpack)
    entries: cython.longlong = node_number(value, node, "entry count")
    deleted: cython.longlong = node_number(value, node, "deleted count")
    fields: cython.longlong = node_number(value, node, "field count")
    skip_elements(value, node, fields)
    if node_number(value, node, "end of the master entry") != 0:
        raise value.corrupt("stream: master entry does not end with 0", node)
    if entries < 0 or deleted < 0:
        raise value.corrupt("stream: node with a negative count", node)
    # One after the other: their sum need not fit into 64 bits. Either loop ends with the bytes.
    while entries > 0:
        entries -= 1
        check_entry(value, node, fields)
    while deleted > 0:
        deleted -= 1
        check_entry(value, node, fields)
    if value.listpack.advance():
        raise value.corrupt("stream: node holds more entries than it says", node)
    return 0


def check_entry(
    value: ValueChecker, node: cython.Py_ssize_t, master_fields: cython.longlong
) -> cython.int:
    flags: cython.longlong = node_number(value, node, "flags")
    pieces: cython.longlong
    fields: cython.longlong
    node_number(value, node, "milliseconds")
    node_number(value, node, "sequence number")
    if flags & SAME_FIELDS:
        skip_elements(value, node, master_fields)
        pieces = 3 + master_fields
    else:
        fields = node_number(value, node, "field count")
        skip_elements(value, node, fields)
        skip_elements(value, node, fields)
        pieces = 4 + 2 * fields
    if node_number(value, node, "piece count") != pieces:
        raise value.corrupt("stream: entry with a wrong piece count", node)
    return 0


def node_number(value: ValueChecker, node: cython.Py_ssize_t, name: str) -> cython.longlong:
    if not value.listpack.advance():
        raise value.corrupt(f"stream: node ends where {name} must be", node)
    if not value.listpack.is_number:
        raise value.corrupt(f"stream: {name} is not a number", node)
    return value.listpack.number


def skip_elements(
    value: ValueChecker, node: cython.Py_ssize_t, count: cython.longlong
) -> cython.int:
    if count < 0:
        raise value.corrupt(f"stream: {count} fields", node)
    while count > 0:
        count -= 1
        if not value.listpack.advance():
            raise value.corrupt("stream: node ends inside an entry", node)
    return 0


def check_group(value: ValueChecker, generation: cython.int, seen: set[bytes]) -> cython.int:
    at: cython.Py_ssize_t = value.at
    name: bytes = value.string()
    add_once(seen, name, value, at, "group")
    value.length()
    value.length()
    if generation >= 2:
        value.length()

    pending: set[bytes] = set()
    count: cython.ulonglong = value.count(ID_BYTES + 9)
    while count > 0:
        count -= 1
        at = value.at
        add_once(pending, value.raw(ID_BYTES), value, at, "pending id")
        value.skip(8)
        value.length()

    consumers: set[bytes] = set()
    count = value.count(10)
    while count > 0:
        count -= 1
        check_consumer(value, generation, consumers, pending)

    if generation >= 5:
        count = value.count(ID_BYTES)
        while count > 0:
            count -= 1
            pending.discard(value.raw(ID_BYTES))
    if pending:
        # Servers take it without deep validation, and meet a null pointer later.
        raise value.corrupt(f"stream: {len(pending)} pending ids belong to no consumer", at)
    return 0


def check_consumer(
    value: ValueChecker, generation: cython.int, seen: set[bytes], pending: set[bytes]
) -> cython.int:
    at: cython.Py_ssize_t = value.at
    name: bytes = value.string()
    add_once(seen, name, value, at, "consumer")
    value.skip(16 if generation >= 3 else 8)
    count: cython.ulonglong = value.count(ID_BYTES)
    while count > 0:
        count -= 1
        at = value.at
        entry: bytes = value.raw(ID_BYTES)
        if entry not in pending:
            raise value.corrupt(
                "stream: a consumer's pending id is not its group's, or another's too", at
            )
        pending.remove(entry)
    return 0
