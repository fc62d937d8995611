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

_FIELD_TTLS_SINCE: dict[str, Version] = {"redis": (7, 4, 0), "valkey": (9, 0, 0)}


def rdb_version_of(product: str, version: Version) -> int | None:
    """What the source will send; None for a product that is not in the table."""
    for name, since, rdb_version in _WRITES:
        if name == product and version >= since:
            return rdb_version
    return None


def may_have_field_ttls(product: str, version: Version) -> bool:
    """Whether hashes of such a server may have fields that expire."""
    since = _FIELD_TTLS_SINCE.get(product)
    return since is not None and version >= since
