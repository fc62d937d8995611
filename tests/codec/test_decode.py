"""The decoder finds in every dump what the server that wrote it answered."""

from __future__ import annotations

import base64
import time
import tracemalloc
from collections import Counter, defaultdict
from typing import Any

import pytest

from engine.codec.decode import decode_payload, decode_value, open_items
from engine.codec.logical import KeyRecord, ModuleDetails, OtherRecord
from engine.codec.rdb_grammar import AUX, FUNCTION2, FUNCTION_PRE_GA, MODULE_AUX
from engine.codec.rdb_records import RecordReader
from engine.errors import CorruptRdb
from tests.codec.interpreted_form import interpreted_imports
from tests.codec.logical_json import described_record, described_value
from tests.corpus_files import (
    CorruptDump,
    OpenDump,
    corrupt_dumps,
    corrupt_payloads,
    open_dumps,
    text_or_digest,
)

VALUE_LIMIT_BYTES = 1 << 40
FIELDS = ("key", "type", "expire_at_ms", "idle_s", "freq", "value")


def _records(file: bytes, chunk_bytes: int, reader_class: Any = RecordReader) -> list[Any]:
    reader = reader_class(VALUE_LIMIT_BYTES)
    found: list[Any] = []
    for at in range(0, len(file), chunk_bytes):
        reader.feed(file[at : at + chunk_bytes])
        while batch := reader.next_records(100):
            found += batch
        if reader.is_finished:
            break
    reader.finish()
    return found


def _expected(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in FIELDS}


def _others(records: list[Any], opcode: int) -> list[OtherRecord]:
    return [it for it in records if isinstance(it, OtherRecord) and it.opcode == opcode]


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps()])
def test_decoded_values_equal_what_the_server_answered(dump: OpenDump) -> None:
    file, expected = dump.rdb, dump.expected

    records = _records(file, len(file))

    keys: dict[str, list[KeyRecord]] = defaultdict(list)
    for record in records:
        if isinstance(record, KeyRecord):
            keys[str(record.db)].append(record)
    for db, entries in expected["dbs"].items():
        found = sorted(keys.pop(db, []), key=lambda record: record.key)
        assert [_expected(entry) for entry in entries] == [described_record(it) for it in found]
        for entry, record in zip(entries, found, strict=True):
            # KeyDB keeps a cron's next time as a member's; the descriptions leave it out.
            assert entry["type"] == "keydb-cron" or entry.get("keydb_member_ttls", []) == [
                [text_or_digest(member), moment] for member, moment in record.member_expiries
            ]
            assert (record.key_metadata is not None) == bool(entry.get("key_meta"))
    assert not keys
    _check_what_lies_between(records, expected)


def _check_what_lies_between(records: list[Any], expected: dict[str, Any]) -> None:
    aux = [tuple(it.fields) for it in _others(records, AUX)]
    assert [(name.encode(), value.encode()) for name, value in expected["aux"]] == aux
    code = [text_or_digest(it.fields[0]) for it in _others(records, FUNCTION2)]  # type: ignore[arg-type]
    assert sorted(map(str, expected["functions"])) == sorted(map(str, code))
    assert [
        (base64.b64decode(it["name"]), base64.b64decode(it["engine"]), it["desc"])
        for it in expected.get("functions_pre_ga", [])
    ] == [it.fields[:3] for it in _others(records, FUNCTION_PRE_GA)]
    assert [base64.b64decode(it["raw"]) for it in expected.get("module_aux", [])] == [
        it.raw[1:] for it in _others(records, MODULE_AUX)
    ]
    assert expected.get("slot_imports", []) == [
        [it.fields[0].decode(), [list(it.fields[i : i + 2]) for i in range(1, len(it.fields), 2)]]  # type: ignore[attr-defined, call-overload]
        for it in _others(records, 243)
    ]


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps("tiny", "keydb")])
def test_any_chunking_and_the_interpreted_form_give_the_same(dump: OpenDump) -> None:
    file = dump.rdb
    whole = _records(file, len(file))
    with interpreted_imports():
        from engine.codec.decode import decode_value as interpreted_decode
        from engine.codec.rdb_records import RecordReader as InterpretedReader

    assert whole == _records(file, 7)
    plain = _records(file, 11, InterpretedReader)
    assert list(map(repr, whole)) == list(map(repr, plain))
    for record in whole:
        if isinstance(record, KeyRecord):
            arguments = record.value_type, record.is_valkey, record.value
            assert repr(decode_value(*arguments)) == repr(interpreted_decode(*arguments))


@pytest.mark.parametrize(
    "dump", [pytest.param(d, id=d.id) for d in open_dumps() if d.has_server_dumps]
)
def test_every_dump_payload_is_the_value_in_the_dump(dump: OpenDump) -> None:
    file = dump.rdb
    records = {
        (it.db, str(text_or_digest(it.key))): it
        for it in _records(file, len(file))
        if isinstance(it, KeyRecord)
    }

    for answer in dump.server_dumps:
        record = records[answer.db, str(answer.key)]
        in_dump = decode_value(record.value_type, record.is_valkey, record.value)
        assert described_value(decode_payload(answer.payload)) == described_value(in_dump)


def test_broken_payloads_are_refused_by_the_codecs_own_error() -> None:
    outcomes: Counter[tuple[str, bool]] = Counter()
    for broken in corrupt_payloads():
        try:
            decode_payload(broken.payload)
        except CorruptRdb as caught:
            error = caught
            outcomes[broken.expect, False] += 1
        else:
            outcomes[broken.expect, True] += 1
            continue
        assert 0 <= error.offset <= len(broken.payload)

    assert outcomes["error", False] > 0
    assert outcomes["error", True] == 0
    assert outcomes["ok", False] == 0


def _decoded_to_the_end(file: bytes) -> list[KeyRecord]:
    """Every key, decoded; the error that ends it is the caller's."""
    found = []
    for record in _records(file, max(len(file), 1)):
        if isinstance(record, KeyRecord):
            try:
                decode_value(record.value_type, record.is_valkey, record.value)
            except CorruptRdb as error:
                raise record.located(error) from error
            found.append(record)
    return found


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in corrupt_dumps()])
def test_corrupt_set_ends_in_an_error_that_says_where(dump: CorruptDump) -> None:
    file = dump.rdb
    error: CorruptRdb | None = None
    found: list[KeyRecord] = []
    tracemalloc.start()
    started = time.process_time()

    try:
        found = _decoded_to_the_end(file)
    except CorruptRdb as caught:
        error = caught

    spent_seconds = time.process_time() - started
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent_seconds < 2
    assert peak_bytes < (32 << 20) + 90 * len(file)
    if dump.expect == "error":
        assert error is not None
        assert 0 <= error.offset <= len(file)
        assert str(error.offset) in str(error)
    elif dump.expect == "ok":
        assert error is None
        assert set(dump.facts.get("keys", {})) <= {record.key.decode() for record in found}


def test_batches_are_bounded_and_together_are_the_value() -> None:
    record = next(
        it
        for it in _records(open_dumps("bigenc", server="redis-7.4.1")[0].rdb, 1 << 30)
        if isinstance(it, KeyRecord) and it.value_type == 18
    )
    whole = decode_value(record.value_type, record.is_valkey, record.value).items
    longest = max(len(item) for item in whole)  # type: ignore[arg-type]

    reader = open_items(record.value_type, record.is_valkey, record.value)
    batches = []
    while batch := reader.next_batch(3, 64):
        batches.append(batch)

    assert [item for batch in batches for item in batch] == whole
    assert len(batches) > len(whole) // 3
    for batch in batches:
        assert len(batch) <= 3
        assert sum(map(len, batch)) <= 64 + longest  # type: ignore[arg-type]


def test_module_id_is_named_as_the_server_names_it() -> None:
    names = {
        decode_value(it.value_type, it.is_valkey, it.value).details.name  # type: ignore[union-attr]
        for it in _records(open_dumps("modules", server="redis-8.2.3")[0].rdb, 1 << 30)
        if isinstance(it, KeyRecord) and it.value_type == 7
    }

    assert "graphdata" in names
    assert ModuleDetails(0, b"").name == "AAAAAAAAA"
