"""What servers of several ages load, for tests of bridging without those servers."""

from __future__ import annotations

from typing import Any

from tests.codec.snapshot_commands import plan_like

_OLD = frozenset({0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14, 15})
_RDB_10 = _OLD | {16, 17, 18, 19}
_RDB_11 = _RDB_10 | {20, 21}

# name -> (RDB version, types of the Redis family, types of Valkey's)
TARGETS: dict[str, tuple[int, frozenset[int], frozenset[int]]] = {
    "redis-6.2": (9, _OLD, _OLD),
    "redis-7.0": (10, _RDB_10, _RDB_10),
    "valkey-8.1": (11, _RDB_11, _RDB_11),
    "redis-8.2": (12, _RDB_11 | {24, 25}, _RDB_11),
    "valkey-9.1": (80, _RDB_11, _RDB_11 | {22}),
}


def plan_for(target: str, **changes: Any) -> Any:
    version, redis_types, valkey_types = TARGETS[target]
    facts = {
        "target_rdb_version": version,
        "redis_types": redis_types,
        "valkey_types": valkey_types,
        "key_metadata": False,
        "functions": version >= 10,
    }
    return plan_like(**{**facts, **changes})
