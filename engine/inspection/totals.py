"""Several dumps' figures added up: those of a cluster's shards. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence

from engine.codec.dump_scan import TTL_BOUNDS_MS, DumpScan


class ScanTotals:
    """What figures.py reads of a DumpScan, over all of them.

    Libraries of functions are the same on every shard, and counted once; versions and aux fields are the last one's.
    """

    def __init__(self, scans: Sequence[DumpScan], *, top: int) -> None:
        last = scans[-1]
        self.version = last.version
        self.is_valkey = last.is_valkey
        self.aux = last.aux
        self.functions = max(it.functions for it in scans)
        self.bytes_read = sum(it.bytes_read for it in scans)
        self.bytes_left_over = sum(it.bytes_left_over for it in scans)
        self.expiries = [sum(it.expiries[n] for it in scans) for n in range(len(TTL_BOUNDS_MS) + 1)]
        self.by_type: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
        self.expiring: dict[int, int] = defaultdict(int)
        self.other: dict[int, int] = defaultdict(int)
        self.modules: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.prefixes: dict[bytes | None, list[int]] = defaultdict(lambda: [0, 0])
        for scan in scans:
            self._add(scan)
        self.biggest = heapq.nlargest(top, (it for scan in scans for it in scan.biggest))

    def _add(self, scan: DumpScan) -> None:
        for db, by_type in scan.by_type.items():
            mine = self.by_type[db]
            for number, (keys, taken) in by_type.items():
                before = mine.get(number, (0, 0))
                mine[number] = before[0] + keys, before[1] + taken
        for db, keys in scan.expiring.items():
            self.expiring[db] += keys
        for opcode, count in scan.other.items():
            self.other[opcode] += count
        for number, (keys, taken) in scan.modules.items():
            self.modules[number][0] += keys
            self.modules[number][1] += taken
        for name, (keys, taken) in scan.prefixes.items():
            self.prefixes[name][0] += keys
            self.prefixes[name][1] += taken
