"""Which RDB version a server writes, and what is new in each. Pure."""

from __future__ import annotations

Version = tuple[int, int, int]

# (product, from this version on) -> RDB version; newest first.
_WRITES: tuple[tuple[str, Version, int], ...] = (
    ("valkey", (9, 0, 0), 80),
    ("valkey", (7, 2, 0), 11),
    ("redict", (7, 3, 0), 12),
    ("redict", (0, 0, 0), 11),
    ("keydb", (0, 0, 0), 9),
    ("redis", (8, 6, 0), 13),
    ("redis", (7, 4, 0), 12),
    ("redis", (7, 2, 0), 11),
    ("redis", (7, 0, 0), 10),
    ("redis", (5, 0, 0), 9),
    ("redis", (4, 0, 0), 8),
    ("redis", (3, 2, 0), 7),
    ("redis", (2, 6, 0), 6),
    ("redis", (2, 4, 0), 2),
    ("redis", (0, 0, 0), 1),
)

_FIELD_TTLS = "hashes with field TTLs"
_NEW_REDIS_TYPES = {24: _FIELD_TTLS, 25: _FIELD_TTLS, 26: "streams"}
_NEW_VALKEY_TYPES = {22: _FIELD_TTLS}
_SINCE_VERSION = {
    10: "packed hashes, sorted sets and lists",
    11: "packed sets and streams",
}


def rdb_version_of(product: str, version: Version) -> int | None:
    """What the source will send; None for a product that is not in the table."""
    for name, since, rdb_version in _WRITES:
        if name == product and version >= since:
            return rdb_version
    return None


def types_that_lack(
    source_rdb_version: int,
    *,
    redis_types: frozenset[int],
    valkey_types: frozenset[int],
    target_rdb_version: int,
) -> tuple[str, ...]:
    """What the source may hold and the target cannot load, in words; empty if it can take everything.

    redis_types, valkey_types: value types the target loads, by the family of the source.
    """
    lacks: list[str] = []
    if source_rdb_version >= 80:
        lacks += [text for number, text in _NEW_VALKEY_TYPES.items() if number not in valkey_types]
        known = max(source_rdb_version, 11)
    else:
        # 26 comes with RDB 13, 24 and 25 with 12.
        new = [
            number
            for number in _NEW_REDIS_TYPES
            if source_rdb_version >= (13 if number == 26 else 12)
        ]
        lacks += [_NEW_REDIS_TYPES[number] for number in new if number not in redis_types]
        known = source_rdb_version
    if target_rdb_version < 80:
        lacks += [
            text for since, text in _SINCE_VERSION.items() if target_rdb_version < since <= known
        ]
    return tuple(dict.fromkeys(lacks))
