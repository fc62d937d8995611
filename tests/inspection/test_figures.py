"""The report of a dump agrees with what the server that wrote it said."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from engine.codec.dump_scan import DumpScan
from engine.codec.logical import KeyRecord
from engine.codec.rdb_records import RecordReader
from engine.errors import CorruptRdb
from engine.inspection.figures import MORE_PREFIXES, NO_PREFIX, figures, lines
from tests.codec.interpreted_form import interpreted
from tests.corpus_files import OpenDump, corrupt_dumps, open_dumps

NOW_MS = 1_795_000_000_000
InterpretedScan: Any = interpreted("dump_scan").DumpScan


def _scanned(
    file: bytes,
    *,
    chunk_bytes: int = 1 << 30,
    form: Any = DumpScan,
    top: int = 5,
    limit: int = 1000,
) -> Any:
    scan = form(NOW_MS, top, b":", limit)
    for at in range(0, len(file), chunk_bytes):
        scan.feed(file[at : at + chunk_bytes])
        if scan.scan():
            break
    scan.finish()
    return scan


def _records(file: bytes) -> list[KeyRecord]:
    reader = RecordReader(1 << 40)
    reader.feed(file)
    found: list[KeyRecord] = []
    while batch := reader.next_records(1000):
        found += [it for it in batch if isinstance(it, KeyRecord)]
    return found


@pytest.mark.parametrize("dump", [pytest.param(it, id=it.id) for it in open_dumps()])
def test_the_report_agrees_with_the_descriptions(dump: OpenDump) -> None:
    expected = dump.expected

    found = figures(_scanned(dump.rdb), name="d.rdb", prefixes_shown=100_000)

    keys = [(db, it) for db, entries in expected["dbs"].items() for it in entries]
    types = Counter("cron" if it["type"] == "keydb-cron" else it["type"] for _, it in keys)
    assert {name: it["keys"] for name, it in found["types"].items()} == types
    assert {db: it["keys"] for db, it in found["databases"].items()} == Counter(
        db for db, _ in keys
    )
    assert found["keys"] == expected["key_count"] == sum(it["keys"] for it in found["prefixes"])
    numbers = {
        str(it["rdb_type"]): it["keys"]
        for kind in found["types"].values()
        for it in kind["encodings"].values()
    }
    assert numbers == expected["rdb"]["value_types"]
    expiring = sum(it["expire_at_ms"] is not None for _, it in keys)
    assert sum(found["ttl"].values()) == expiring
    assert sum(it["expiring"] for it in found["databases"].values()) == expiring
    assert found["bytes_after_end"] == expected["rdb"]["bytes_after_end"]
    assert found["functions"] == len(expected["functions"]) + len(
        expected.get("functions_pre_ga", [])
    )
    assert found["rdb_version"] == expected["rdb"]["version"]
    assert (
        sum(it["bytes"] for it in found["types"].values()) == found["bytes"] <= found["rdb_bytes"]
    )
    modules = Counter(it["value"]["module"] for _, it in keys if it["type"] == "module")
    assert {name: it["keys"] for name, it in found["modules"].items()} == modules


@pytest.mark.parametrize(
    "dump", [pytest.param(it, id=it.id) for it in open_dumps("dbs", "modules")]
)
def test_any_chunking_and_the_interpreted_form_count_alike(dump: OpenDump) -> None:
    reports = [
        figures(_scanned(dump.rdb, chunk_bytes=size, form=form), name="x", prefixes_shown=10)
        for size, form in ((1 << 30, DumpScan), (13, DumpScan), (997, InterpretedScan))
    ]

    for report in reports:
        report.pop("bytes_after_end")  # of what had been fed when the RDB ended
    assert reports[0] == reports[1] == reports[2]


def test_the_biggest_keys_are_the_biggest() -> None:
    file = open_dumps("default", server="redis-8.6.3")[0].rdb
    sizes = {it.key: 1 + len(it.value) for it in _records(file)}

    scan = _scanned(file, top=7)

    named = sorted(scan.biggest, reverse=True)
    assert len(named) == 7
    assert all(taken > sizes[key] for taken, _, key, _ in named)
    smallest = named[-1][0]
    others = sizes.keys() - {key for _, _, key, _ in named}
    # A record has a few bytes more than key and value: their lengths.
    assert all(sizes[key] + len(key) <= smallest for key in others)


def test_prefixes_beyond_the_limit_are_counted_together() -> None:
    keys = [b"a:1", b"a:2", b"b:1", b"c:1", b"c:2", b"none", b"12345", b":x"]
    records = b"".join(b"\0" + bytes([len(key)]) + key + b"\1v" for key in keys)
    file = b"REDIS0009" + records + b"\xff" + bytes(8)

    found = figures(_scanned(file, limit=2), name="x", prefixes_shown=10)

    assert {it["name"]: it["keys"] for it in found["prefixes"]} == {
        "a": 2, "b": 1, MORE_PREFIXES: 3, NO_PREFIX: 2,
    }  # fmt: skip


def test_expiries_stand_in_their_class() -> None:
    offsets_ms = [-1, 0, 30_000, 3_000_000, 80_000_000, 500_000_000, 2_000_000_000, 1 << 40]
    records = b"".join(
        b"\xfc" + (NOW_MS + offset).to_bytes(8, "little") + b"\0\2k" + bytes([97 + i]) + b"\1v"
        for i, offset in enumerate(offsets_ms)
    )
    file = b"REDIS0009" + records + b"\0\1z\1v\xff" + bytes(8)

    found = figures(_scanned(file), name="x", prefixes_shown=1)

    assert list(found["ttl"].values()) == [2, 1, 1, 1, 1, 1, 1]
    shown = lines(found)
    assert any(line.startswith("never") and line.endswith(" 1") for line in shown)
    assert any(line.startswith("expired") and line.endswith(" 2") for line in shown)


@pytest.mark.parametrize("form", [DumpScan, InterpretedScan], ids=["as-built", "interpreted"])
def test_broken_framing_ends_in_the_codecs_own_error(form: Any) -> None:
    refused = 0
    for dump in corrupt_dumps("error"):
        try:
            _scanned(dump.rdb, form=form)
        except CorruptRdb:
            refused += 1

    # What is broken inside a value only is not looked at here.
    assert refused > 100
