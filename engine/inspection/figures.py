"""What a scan found, as one plain object for JSON and as lines for people. Pure."""

from __future__ import annotations

from typing import Any

from engine.codec.dump_scan import OTHER_PREFIXES, DumpScan
from engine.codec.logical import module_name
from engine.codec.rdb_grammar import MODULE_AUX, NAMES
from engine.codec.value_items import KINDS
from engine.inspection.totals import ScanTotals
from engine.quantities import byte_count

TTL_NAMES = (
    "expired", "under a minute", "under an hour", "under a day", "under a week", "under 30 days", "later",
)  # fmt: skip
NO_PREFIX = "(no prefix)"
MORE_PREFIXES = "(other prefixes)"
SHOWN_KEY_BYTES = 80


def figures(scan: DumpScan | ScanTotals, *, name: str, prefixes_shown: int) -> dict[str, Any]:
    """Everything the scan counted. name: of the file, or the server's address."""
    databases: dict[str, Any] = {}
    types: dict[str, Any] = {}
    keys = size = 0
    for db, by_type in sorted(scan.by_type.items()):
        of_db = databases[str(db)] = {"keys": 0, "bytes": 0, "expiring": scan.expiring.get(db, 0)}
        for number, (count, taken) in sorted(by_type.items()):
            kind = types.setdefault(_kind(number), {"keys": 0, "bytes": 0, "encodings": {}})
            encoding = kind["encodings"].setdefault(
                _encoding(number, scan.is_valkey), {"rdb_type": number, "keys": 0, "bytes": 0}
            )
            for counter in (of_db, kind, encoding):
                counter["keys"] += count
                counter["bytes"] += taken
            keys, size = keys + count, size + taken
    return {
        "format": 1,
        "source": name,
        "rdb_version": scan.version,
        "family": "valkey" if scan.is_valkey else "redis",
        "written_by": _aux(scan, b"valkey-ver") or _aux(scan, b"redis-ver"),
        "aux": {text(name): text(value) for name, value in sorted(scan.aux.items())},
        "keys": keys,
        "bytes": size,
        "rdb_bytes": scan.bytes_read,
        "bytes_after_end": scan.bytes_left_over,
        "functions": scan.functions,
        "module_aux": scan.other.get(MODULE_AUX, 0),
        "databases": databases,
        "types": dict(sorted(types.items(), key=lambda it: -it[1]["bytes"])),
        "modules": {
            module_name(number): {"keys": count, "bytes": taken, "encoding_version": number & 1023}
            for number, (count, taken) in sorted(scan.modules.items())
        },
        "ttl": dict(zip(TTL_NAMES, scan.expiries, strict=True)),
        "prefixes": _prefixes(scan, prefixes_shown),
        "biggest": [
            {"bytes": taken, "db": db, "key": text(key), "type": _kind(number)}
            for taken, db, key, number in sorted(scan.biggest, reverse=True)
        ],
    }


def _kind(number: int) -> str:
    return KINDS.get(number, "other")


def _encoding(number: int, is_valkey: bool) -> str:
    if number == 22:
        return "hash with field TTLs" + ("" if is_valkey else " (7.4 release candidates)")
    return NAMES.get(number, f"type {number}")


def _aux(scan: DumpScan | ScanTotals, name: bytes) -> str:
    return text(scan.aux.get(name, b""))


def text(raw: bytes) -> str:
    """A name for people and JSON: what is no UTF-8 stands escaped in it."""
    return raw.decode("utf-8", "backslashreplace")


def _prefixes(scan: DumpScan | ScanTotals, shown: int) -> list[dict[str, Any]]:
    found = sorted(scan.prefixes.items(), key=lambda it: -it[1][1])
    return [
        {
            "prefix": None if name is None or name == OTHER_PREFIXES else text(name),
            "name": NO_PREFIX if name is None else MORE_PREFIXES if not name else text(name),
            "keys": keys,
            "bytes": taken,
        }
        for name, (keys, taken) in found[:shown]
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """The same as a table of text."""
    written = found["written_by"] or "a server that does not say its version"
    out = [
        f"{found['source']}: RDB {found['rdb_version']} ({found['family']}), written by {written}",
        f"{found['keys']:,} keys, {byte_count(found['bytes'])} serialized; "
        f"{found['functions']} function libraries",
    ]
    if found["bytes_after_end"]:
        after = byte_count(found["bytes_after_end"])
        out.append(f"{after} of commands follow this snapshot and are not looked into")
    out += _table("type", found["types"].items())
    encodings = [it for kind in found["types"].values() for it in kind["encodings"].items()]
    out += _table("encoding", encodings)
    out += _table("database", found["databases"].items(), "expiring")
    out += _table("prefix", [(it["name"], it) for it in found["prefixes"]])
    if found["modules"]:
        out += _table("module", found["modules"].items())
    with_ttl = sum(found["ttl"].values())
    out += ["", f"{'expires in':<44} {'keys':>12}"]
    out += [f"{name:<44} {count:>12,}" for name, count in found["ttl"].items() if count]
    out.append(f"{'never':<44} {found['keys'] - with_ttl:>12,}")
    out += ["", f"{'biggest keys':<44} {'bytes':>12}"]
    for it in found["biggest"]:
        place = f"db{it['db']} {it['key'][:SHOWN_KEY_BYTES]} ({it['type']})"
        out.append(f"{place:<44} {it['bytes']:>12,}")
    return out


def _table(title: str, rows: Any, extra: str = "") -> list[str]:
    head = f"{title:<44} {'keys':>12} {'bytes':>16}" + (f" {extra:>12}" if extra else "")
    out = ["", head]
    for name, it in rows:
        line = f"{name:<44} {it['keys']:>12,} {it['bytes']:>16,}"
        out.append(line + (f" {it[extra]:>12,}" if extra else ""))
    return out
