"""Names under which values too large for one command are built on the target. Pure.

    redis-ferry:part:task:line              on a server, in the key's database
    redis-ferry:part:{abcd}:task:line       on a cluster, in the slot of the key

A line builds one value at a time, so the name tells nothing of the key: whoever begins anew knows what may be there.
"""

from __future__ import annotations

PART_PREFIX = b"redis-ferry:part:"


def part_suffix(task_id: str, line: str) -> bytes:
    """What a line's names end with."""
    return b"%b:%b" % (task_id.encode(), line.encode())


def part_name(suffix: bytes, tag: bytes = b"") -> bytes:
    """The name for a line; tag: four letters of the slot where it must lie, on a cluster."""
    return PART_PREFIX + (b"{%b}:" % tag if tag else b"") + suffix
