"""The compiled codec: bytes in, blocks of target commands out. No sockets, clocks or logs.

One source for two forms: plain Python, and the same files compiled by Cython (pure-Python mode, types in
the `.pxd` beside each file). `COMPILED` tells which form runs; the interpreted one gives the same results,
some twenty times slower.
"""

from __future__ import annotations

from engine.codec import rdb_walker, replies, snapshot, stream

COMPILED: bool = all(
    not (module.__file__ or "").endswith(".py")
    for module in (replies, rdb_walker, snapshot, stream)
)
