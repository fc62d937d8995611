"""The plain reader against the descriptions the servers gave of their own dumps."""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from typing import Any

import pytest

from tests.corpus_files import (
    CorruptDump,
    OpenDump,
    all_open_dumps,
    corrupt_dumps,
    has_pre_release_module,
    open_dumps,
    streams,
    text_or_digest,
)
from tests.oracle.rdb_reference import BadRdb, dump_payload, payload_value, read_rdb
from tests.oracle.records import Record, Snapshot

DUMPS = [pytest.param(dump, id=dump.id) for dump in open_dumps()]


def _is_keydb_member_ttl(name: bytes) -> bool:
    return name.startswith(b"keydb-subexpire-")


def _described(record: Record) -> dict[str, Any]:
    return {
        "key": text_or_digest(record.key),
        "rdb_type": record.value_type,
        "expire_at_ms": record.expire_ms,
        "idle_s": record.idle_seconds,
        "freq": record.freq,
    }


def _keys_by_db(records: list[Record]) -> dict[str, list[dict[str, Any]]]:
    by_db: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_db[str(record.db)].append(record)
    return {
        db: [_described(record) for record in sorted(found, key=lambda record: record.key)]
        for db, found in by_db.items()
    }


def _expected_keys(expected: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = ("key", "rdb_type", "expire_at_ms", "idle_s", "freq")
    return {
        db: [{name: entry.get(name) for name in names} for entry in entries]
        for db, entries in expected["dbs"].items()
        if entries
    }


def _counts(counter: dict[Any, int]) -> dict[str, int]:
    return {str(number): count for number, count in counter.items()}


def _check_rest(snapshot: Snapshot, expected: dict[str, Any]) -> None:
    rdb = expected["rdb"]
    assert (rdb["magic"], rdb["version"]) == (snapshot.magic, snapshot.version)
    assert rdb["eof_opcode_end"] == snapshot.eof_opcode_end
    assert rdb["value_types"] == _counts(snapshot.value_types)
    assert rdb["opcodes"] == _counts(snapshot.opcodes)
    assert rdb["string_encodings"] == _counts(snapshot.string_encodings)
    crc = snapshot.crc and f"{int.from_bytes(snapshot.crc, 'little'):016x}"
    assert rdb["crc64"] == crc
    assert [tuple(pair) for pair in expected["aux"]] == [
        (name.decode(), value.decode())
        for name, value in snapshot.aux
        if not _is_keydb_member_ttl(name)
    ]
    functions = [text_or_digest(code) for code in snapshot.functions]
    assert sorted(expected["functions"], key=str) == sorted(functions, key=str)  # FUNCTION LIST
    assert expected["size_hints"] == {
        str(db): list(hint) for db, hint in snapshot.size_hints.items()
    }
    assert [tuple(entry) for entry in expected.get("slot_info_opcode", [])] == snapshot.slot_info
    assert [base64.b64decode(entry["raw"]) for entry in expected.get("module_aux", [])] == (
        snapshot.module_aux
    )


@pytest.mark.parametrize("dump", DUMPS)
def test_reference_reader_finds_what_the_server_described(dump: OpenDump) -> None:
    file, expected = dump.rdb, dump.expected
    assert expected["rdb"]["sha256"] == hashlib.sha256(file).hexdigest()

    records, snapshot = read_rdb(file)

    assert _expected_keys(expected) == _keys_by_db(records)
    assert expected["key_count"] == len(records)
    assert expected["rdb"]["bytes_after_end"] == len(file) - snapshot.end
    _check_rest(snapshot, expected)


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps() if "dbs" in d.id])
def test_value_slices_lie_where_they_say(dump: OpenDump) -> None:
    file = dump.rdb
    records, _ = read_rdb(file)

    assert [record.value for record in records] == [file[r.start : r.end] for r in records]


def _payloads_compared(dump: OpenDump) -> int:
    records, snapshot = read_rdb(dump.rdb)
    by_key = {(record.db, str(text_or_digest(record.key))): record for record in records}
    compared = 0
    for answer in dump.server_dumps:
        record = by_key[answer.db, str(answer.key)]
        payload_type, value, behind = payload_value(answer.payload, snapshot.is_valkey)
        assert answer.rdb_type == payload_type
        is_keydb = snapshot.aux and b"mvcc-tstamp" in answer.payload
        assert is_keydb or not behind
        if (record.value_type, record.value) != (payload_type, value):
            # A hash table comes in any order: two of the corpus' 3,780 answers are so.
            assert record.value_type == payload_type == 4
            assert len(record.value) == len(value)
            continue
        compared += 1
        if not behind and not record.key_meta:
            assert answer.payload == dump_payload(
                record.value_type, record.value, answer.rdb_version
            )
    return compared


@pytest.mark.parametrize(
    "dump", [pytest.param(d, id=d.id) for d in open_dumps() if d.has_server_dumps]
)
def test_payloads_equal_the_servers_own_dump(dump: OpenDump) -> None:
    answers = dump.server_dumps

    compared = _payloads_compared(dump)

    assert compared >= len(answers) - 1


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in corrupt_dumps("ok")])
def test_odd_but_legal_dumps_are_read(dump: CorruptDump) -> None:
    records, _ = read_rdb(dump.rdb)

    keys = {record.key.decode(): record for record in records}
    for key, expire in dump.facts.get("expire", {}).items():
        assert expire == keys[key].expire_ms
    assert set(dump.facts.get("keys", {})) <= set(keys)


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in corrupt_dumps("error")])
def test_broken_framing_is_refused_and_nothing_else_is_raised(dump: CorruptDump) -> None:
    try:
        records, _ = read_rdb(dump.rdb)
    except BadRdb:
        return

    # What is left is broken inside a value, which is the value check's matter.
    assert records


def test_value_of_a_release_candidates_module_is_refused() -> None:
    dump = next(dump for dump in all_open_dumps() if has_pre_release_module(dump))

    with pytest.raises(BadRdb, match="type 6"):
        read_rdb(dump.rdb)


@pytest.mark.parametrize("stream", [pytest.param(s, id=s.id) for s in streams()])
def test_snapshots_of_the_recorded_streams_are_whole(stream: Any) -> None:
    expected = stream.expected
    start, size = expected["rdb_start"], expected["rdb_len"]

    _, snapshot = read_rdb(stream.wire[start : start + size])

    assert size == snapshot.end
