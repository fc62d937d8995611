"""What a key holds, in a form that servers of all versions share, and how two such forms differ.

All functions are pure: raw RESP2 replies in, texts out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.demo.wire import Reply

# The command that reads a whole value: what stands before the key, and what after it.
_READERS: dict[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    b"string": ((b"GET",), ()),
    b"list": ((b"LRANGE",), (b"0", b"-1")),
    b"set": ((b"SMEMBERS",), ()),
    b"hash": ((b"HGETALL",), ()),
    b"zset": ((b"ZRANGE",), (b"0", b"-1", b"WITHSCORES")),
    b"stream": ((b"XINFO", b"STREAM"), (b"FULL", b"COUNT", b"0")),
}
_OTHER_READER: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((b"DUMP",), ())
DUMP_FOOTER_BYTES = 10  # RDB version and CRC64, which differ between versions for an equal value
HLL_MAGIC = b"HYLL"
HLL_CACHE = slice(8, 16)  # the cardinality that PFCOUNT leaves in the value
SHOWN_BYTES = 40
# The shape of the stream's tree in memory, and what is compared by itself.
_NOT_STREAM_FACTS = frozenset({b"radix-tree-keys", b"radix-tree-nodes", b"entries", b"groups"})
_NOT_GROUP_FACTS = frozenset({b"name", b"pending", b"pel", b"consumers"})
_ENTRIES_READ = frozenset({b"entries-read", b"lag"})


def value_command(kind: bytes) -> tuple[bytes, bytes]:
    """Return the RESP bytes around the key's bulk string, for a command that reads a `kind`."""
    before, after = _READERS.get(kind, _OTHER_READER)
    count = len(before) + 1 + len(after)
    return b"*%d\r\n" % count + b"".join(map(bulk, before)), b"".join(map(bulk, after))


def bulk(argument: bytes) -> bytes:
    """Return one argument as a RESP bulk string."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def value_difference(kind: bytes, source: Reply, target: Reply) -> str:
    """Say how two replies to the value command differ as values; empty if they do not.

    Streams: entries and facts only, see group_difference.
    """
    if source == target:
        return ""
    return _DIFFERENCES.get(kind, _dump_difference)(source, target)


def _string_difference(source: bytes, target: bytes) -> str:
    if source.startswith(HLL_MAGIC) and target.startswith(HLL_MAGIC):
        source, target = _without_cache(source), _without_cache(target)
        if source == target:
            return ""
    at = next(
        (i for i, (a, b) in enumerate(zip(source, target, strict=False)) if a != b),
        min(len(source), len(target)),
    )
    near = slice(max(0, at - 8), at + SHOWN_BYTES)
    return (
        f"{len(source)} bytes, target {len(target)}; from byte {near.start}: "
        f"{source[near]!r}, target {target[near]!r}"
    )


def _without_cache(hyperloglog: bytes) -> bytes:
    return hyperloglog[: HLL_CACHE.start] + hyperloglog[HLL_CACHE.stop :]


def _list_difference(source: list[bytes], target: list[bytes]) -> str:
    for at, (a, b) in enumerate(zip(source, target, strict=False)):
        if a != b:
            return f"element {at}: {_shown(a)}, target {_shown(b)}"
    return f"{len(source)} elements, target {len(target)}"


def _set_difference(source: list[bytes], target: list[bytes]) -> str:
    return _mapping_difference("member", dict.fromkeys(source), dict.fromkeys(target))


def _hash_difference(source: list[bytes], target: list[bytes]) -> str:
    return _mapping_difference("field", _pairs(source), _pairs(target))


def _zset_difference(source: list[bytes], target: list[bytes]) -> str:
    # As numbers: versions differ in how many digits they print for the same double.
    scores = [
        {member: float(score) for member, score in _pairs(side).items()}
        for side in (source, target)
    ]
    return _mapping_difference("member", *scores)


def _dump_difference(source: bytes, target: bytes) -> str:
    if source[:-DUMP_FOOTER_BYTES] == target[:-DUMP_FOOTER_BYTES]:
        return ""
    return f"another DUMP: {len(source)} bytes, target {len(target)}"


def _stream_difference(source: list[Any], target: list[Any]) -> str:
    ours, theirs = _pairs(source), _pairs(target)
    if ours[b"entries"] != theirs[b"entries"]:
        entries = [{it[0]: it[1] for it in side[b"entries"]} for side in (ours, theirs)]
        return _mapping_difference("entry", *entries) or "entries in another order"
    return _facts_difference(ours, theirs, _NOT_STREAM_FACTS)


def group_difference(
    source: list[Any], target: list[Any], *, with_entries_read: bool = True
) -> str:
    """Say how the consumer groups of two XINFO STREAM FULL replies differ; empty if they do not.

    with_entries_read: how many entries a group has read, and what follows from it, is compared as well. Delivery times and the times of consumers are left out, and consumers with nothing pending.
    """
    if source == target:
        return ""
    ours, theirs = (
        {group[b"name"]: group for group in map(_pairs, _pairs(side)[b"groups"])}
        for side in (source, target)
    )
    left_out = _NOT_GROUP_FACTS if with_entries_read else _NOT_GROUP_FACTS | _ENTRIES_READ
    for name in ours.keys() | theirs.keys():
        if name not in ours or name not in theirs:
            return f"group {_shown(name)} only in {'source' if name in ours else 'target'}"
        one, other = ours[name], theirs[name]
        difference = (
            _facts_difference(one, other, left_out)
            or _mapping_difference("pending entry", _pending(one), _pending(other))
            or _mapping_difference("consumer", _consumers(one), _consumers(other))
        )
        if difference:
            return f"group {_shown(name)}: {difference}"
    return ""


def _pending(group: Mapping[bytes, Any]) -> dict[bytes, tuple[bytes, int]]:
    """Return (consumer, count of deliveries) by entry id."""
    return {it[0]: (it[1], it[3]) for it in group[b"pending"]}


def _consumers(group: Mapping[bytes, Any]) -> dict[bytes, list[tuple[bytes, int]]]:
    """Return the (entry id, count of deliveries) of each consumer who has any."""
    pending = {it[b"name"]: it[b"pending"] for it in map(_pairs, group[b"consumers"])}
    return {
        name: [(it[0], it[2]) for it in entries] for name, entries in pending.items() if entries
    }


def _facts_difference(
    source: Mapping[bytes, Any], target: Mapping[bytes, Any], left_out: frozenset[bytes]
) -> str:
    # What only one of two versions reports cannot differ.
    for name in (source.keys() & target.keys()) - left_out:
        if source[name] != target[name]:
            return f"{name.decode()} {source[name]!r}, target {target[name]!r}"
    return ""


def _mapping_difference(noun: str, source: Mapping[bytes, Any], target: Mapping[bytes, Any]) -> str:
    if source == target:
        return ""
    parts = [
        _counted(f"{noun}s only in {side}", keys)
        for side, keys in (
            ("source", source.keys() - target.keys()),
            ("target", target.keys() - source.keys()),
        )
        if keys
    ]
    changed = [key for key in source.keys() & target.keys() if source[key] != target[key]]
    if changed:
        key = min(changed)
        values = f" ({_shown(source[key])}, target {_shown(target[key])})"
        parts.append(_counted(f"{noun}s with another value", changed) + values)
    return "; ".join(parts)


def _counted(what: str, keys: Iterable[bytes]) -> str:
    names = sorted(keys)
    return f"{len(names)} {what}, such as {_shown(names[0])}"


def _shown(value: object) -> str:
    if isinstance(value, bytes) and len(value) > SHOWN_BYTES:
        return f"{value[:SHOWN_BYTES]!r}… ({len(value)} bytes)"
    return repr(value)


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_DIFFERENCES: dict[bytes, Callable[[Any, Any], str]] = {
    b"string": _string_difference,
    b"list": _list_difference,
    b"set": _set_difference,
    b"hash": _hash_difference,
    b"zset": _zset_difference,
    b"stream": _stream_difference,
}
