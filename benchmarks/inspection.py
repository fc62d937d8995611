"""How fast dumps are looked into: against rdbtools on a dump both can read, and on listpack data.

    python -m benchmarks.inspection                        # a million keys; half a minute

`scan` is what `redis-ferry inspect` does; rdbtools runs with callbacks that do nothing, its fastest. rdbtools gets a
tenth of the keys, and its time counts ten times. Exit status 1: a criterion is missed.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import warnings

from benchmarks.figures import median
from benchmarks.report import say
from engine.codec.dump_scan import DumpScan
from engine.codec.rdb_records import RecordReader
from engine.codec.value_check import check_value

KEYS = 1_000_000
RDBTOOLS_SHARE = 10
HASHES, FIELDS = 50_000, 50
CHUNK_BYTES = 1 << 18
MIB = 1 << 20
LEAST_RATIO = 20.0
LEAST_MIB_PER_SECOND = 300 * 1000 * 1000 / MIB


def _length(count: int) -> bytes:
    if count < 64:
        return bytes([count])
    return bytes([0x40 | count >> 8, count & 0xFF])


def _strings(count: int) -> bytes:
    body = b"".join(b"\0\x0duser:%08d\x40\x40%064d" % (number, number) for number in range(count))
    return b"REDIS0009" + body + b"\xff" + bytes(8)


def _listpack(items: list[bytes]) -> bytes:
    body = b"".join(bytes([0x80 | len(it)]) + it + bytes([len(it) + 1]) for it in items)
    total = len(body) + 7
    return total.to_bytes(4, "little") + len(items).to_bytes(2, "little") + body + b"\xff"


def _hashes() -> tuple[bytes, bytes]:
    """A dump of hashes as listpacks, and the value of each."""
    items = [b"field:%02d" % (i // 2) if i % 2 == 0 else b"%024d" % i for i in range(2 * FIELDS)]
    packed = _listpack(items)
    value = _length(len(packed)) + packed
    body = b"".join(b"\x10\x0dhash:%08d" % number + value for number in range(HASHES))
    return b"REDIS0011" + body + b"\xff" + bytes(8), value


def _scan_seconds(file: bytes) -> float:
    began = time.perf_counter()
    scan = DumpScan(0, 10, b":", 100_000)
    for at in range(0, len(file), CHUNK_BYTES):
        scan.feed(file[at : at + CHUNK_BYTES])
        scan.scan()
    scan.finish()
    return time.perf_counter() - began


def _checked_seconds(file: bytes) -> float:
    """Every value looked into, to its last element."""
    began = time.perf_counter()
    reader = RecordReader(1 << 40)
    for at in range(0, len(file), CHUNK_BYTES):
        reader.feed(file[at : at + CHUNK_BYTES])
        while batch := reader.next_records(256):
            for record in batch:
                check_value(record.value_type, False, record.value)  # type: ignore[union-attr]
    reader.finish()
    return time.perf_counter() - began


def _rdbtools_seconds(file: bytes) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rdbtools import RdbCallback, RdbParser
    began = time.perf_counter()
    RdbParser(RdbCallback(None)).parse_fd(io.BytesIO(file))
    return time.perf_counter() - began


def main() -> int:
    """Run, print. Returns 1 if a criterion was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspection", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    rounds = range(parser.parse_args().rounds)
    strings, tenth = _strings(KEYS), _strings(KEYS // RDBTOOLS_SHARE)
    hashes, _ = _hashes()
    runs = [
        (
            _scan_seconds(strings),
            RDBTOOLS_SHARE * _rdbtools_seconds(tenth),
            _scan_seconds(hashes),
            _checked_seconds(hashes),
        )
        for _ in rounds
    ]
    scan, rdbtools, packed, checked = (median([run[i] for run in runs]) for i in range(4))
    ratio = rdbtools / scan
    measured, looked = len(hashes) / MIB / packed, len(hashes) / MIB / checked
    say(
        f"{KEYS:,} strings of 64 bytes: inspect {scan:.3f} s, rdbtools {rdbtools:.2f} s, {ratio:.0f} times as fast"
    )
    say(
        f"hashes of {FIELDS} fields in listpacks: {measured:,.0f} MiB/s measured, {looked:,.0f} MiB/s looked into"
    )
    held = ratio >= LEAST_RATIO and min(measured, looked) >= LEAST_MIB_PER_SECOND
    say(
        f"wanted: {LEAST_RATIO:.0f} times, {LEAST_MIB_PER_SECOND:.0f} MiB/s: {'held' if held else 'missed'}"
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
