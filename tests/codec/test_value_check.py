"""Sound values pass, broken ones are refused: the servers' own values, and the corrupt set."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from engine.codec.value_check import check_value
from engine.errors import CorruptRdb
from tests.codec.interpreted_form import interpreted
from tests.codec.test_lzf import compress
from tests.codec.test_packed import listpack
from tests.corpus_files import (
    CorruptDump,
    CorruptPayload,
    OpenDump,
    corrupt_dumps,
    corrupt_payloads,
    open_dumps,
    streams,
)
from tests.oracle.rdb_reference import BadRdb, RdbReader, payload_value, read_rdb
from tests.oracle.records import Record

interpreted_check: Callable[[int, bool, bytes], None] = interpreted("value_check").check_value
FORMS = [
    pytest.param(check_value, id="as-built"),
    pytest.param(interpreted_check, id="interpreted"),
]
CORRUPT = [pytest.param(dump, id=dump.id) for dump in corrupt_dumps()]
KEEP_BYTES = 32 << 20


def _verdict(check: Callable[[int, bool, bytes], object], *value: Any) -> tuple[str, int] | None:
    try:
        check(*value)
    except CorruptRdb as caught:
        error = caught
    else:
        return None
    assert 0 <= error.offset <= len(value[2])
    return str(error), error.offset


# --- what servers wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps()])
def test_every_value_of_every_server_passes(dump: OpenDump) -> None:
    records, snapshot = read_rdb(dump.rdb)

    for record in records:
        check_value(record.value_type, snapshot.is_valkey, record.value)


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps("tiny", "bigenc")])
def test_interpreted_form_passes_them_too(dump: OpenDump) -> None:
    records, snapshot = read_rdb(dump.rdb)

    for record in records:
        interpreted_check(record.value_type, snapshot.is_valkey, record.value)


@pytest.mark.parametrize("stream", [pytest.param(s, id=s.id) for s in streams()])
def test_values_of_the_recorded_full_syncs_pass(stream: Any) -> None:
    expected = stream.expected
    start = expected["rdb_start"]
    records, snapshot = read_rdb(stream.wire[start : start + expected["rdb_len"]])

    for record in records:
        check_value(record.value_type, snapshot.is_valkey, record.value)


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps("tiny", "testmod")])
def test_every_cut_and_every_tail_is_refused(dump: OpenDump) -> None:
    records, snapshot = read_rdb(dump.rdb)

    for record in records:
        for cut in range(len(record.value)):
            verdict = _verdict(
                check_value, record.value_type, snapshot.is_valkey, record.value[:cut]
            )
            assert verdict is not None, (record.value_type, cut)
        tail = _verdict(check_value, record.value_type, snapshot.is_valkey, record.value + b"\0")
        assert tail is not None


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps("tiny", "testmod")])
def test_flipped_bits_raise_nothing_else_and_both_forms_agree(dump: OpenDump) -> None:
    records, snapshot = read_rdb(dump.rdb)
    rng = random.Random(dump.id)

    for record in records:
        for _ in range(60):
            value = bytearray(record.value)
            value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
            arguments = (record.value_type, snapshot.is_valkey, bytes(value))
            assert _verdict(interpreted_check, *arguments) == _verdict(check_value, *arguments)


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in open_dumps("tiny")])
def test_a_value_under_any_other_type_raises_nothing_else(dump: OpenDump) -> None:
    records, _ = read_rdb(dump.rdb)

    for record in records:
        for value_type in range(256):
            for is_valkey in (False, True):
                _verdict(check_value, value_type, is_valkey, record.value)


# --- the corrupt set ----------------------------------------------------------------------------------


def _outcome(file: bytes, check: Callable[[int, bool, bytes], object]) -> str:
    reader = RdbReader(file)
    try:
        for record in reader.records():
            check(record.value_type, reader.is_valkey, record.value)
    except BadRdb:
        return "framing"
    except CorruptRdb:
        return "value"
    return "passed"


@pytest.mark.parametrize("check", FORMS)
@pytest.mark.parametrize("dump", CORRUPT)
def test_corrupt_set_ends_as_expected(dump: CorruptDump, check: Any) -> None:
    outcome = _outcome(dump.rdb, check)

    if dump.expect == "error":
        assert outcome != "passed"
    elif dump.expect == "ok":
        assert outcome == "passed"


def test_corruptions_inside_values_are_found_by_this_check() -> None:
    # The figure is the corrupt set's: entries of `error` whose framing is sound.
    found = [dump for dump in corrupt_dumps("error") if _outcome(dump.rdb, check_value) == "value"]

    assert len(found) == 62


@pytest.mark.parametrize("dump", CORRUPT)
def test_corrupt_values_stay_within_time_and_memory(dump: CorruptDump) -> None:
    file = dump.rdb
    reader = RdbReader(file)
    records: list[Record] = []
    with suppress(BadRdb):  # the values before the damage are still checked
        records.extend(reader.records())

    for check in (check_value, interpreted_check):
        tracemalloc.start()
        began = time.perf_counter()
        for record in records:
            _verdict(check, record.value_type, reader.is_valkey, record.value)
        seconds = time.perf_counter() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert seconds < 2
        assert peak < KEEP_BYTES + 90 * len(file)


@pytest.mark.parametrize("payload", [pytest.param(p, id=p.id) for p in corrupt_payloads()])
def test_corrupt_payloads_end_as_expected(payload: CorruptPayload) -> None:
    is_valkey = int.from_bytes(payload.payload[-10:-8], "little") >= 80
    try:
        value_type, value, _ = payload_value(payload.payload, is_valkey)
    except BadRdb:
        assert payload.expect != "ok"
        return
    if "RDB version" in payload.why:
        return  # the value is good; the footer is not this check's matter

    verdict = _verdict(check_value, value_type, is_valkey, value)

    assert payload.expect == "error-or-other-data" or (payload.expect == "ok") == (verdict is None)


# --- values written here ------------------------------------------------------------------------------


def _string(text: bytes) -> bytes:
    return b"\x80" + struct.pack(">I", len(text)) + text


def _node(*elements: int | bytes) -> bytes:
    return _string(b"\0" * 7 + b"\1" + b"\0" * 8) + _string(listpack(list(elements)))


def _stream(node: bytes, groups: bytes = b"\0") -> bytes:
    return b"\1" + node + b"\1\1\0" + groups


SOUND = {
    "empty-list": (1, b"\0"),
    "empty-stream": (15, b"\0\0\0\0\0"),
    "score-inf": (3, b"\1" + _string(b"m") + b"\xfe"),
    "score-text-exponent": (3, b"\1" + _string(b"m") + b"\x071.5e-07"),
    "zset-listpack-inf": (17, _string(listpack([b"m", b"-inf"]))),
    "plain-node-of-a-list": (18, b"\1\1" + _string(b"element")),
    "entry-with-master-fields": (15, _stream(_node(1, 0, 1, b"f", 0, 2, 0, 0, b"v", 4))),
    "entry-with-own-fields": (15, _stream(_node(1, 0, 1, b"f", 0, 0, 0, 0, 1, b"g", b"v", 6))),
    "deleted-entry": (15, _stream(_node(0, 1, 1, b"f", 0, 3, 0, 0, b"v", 4))),
}

BROKEN = {
    "score-nan": (3, b"\1" + _string(b"m") + b"\xfd"),
    "score-text-with-junk": (3, b"\1" + _string(b"m") + b"\x041.5x"),
    "score-text-empty": (3, b"\1" + _string(b"m") + b"\0"),
    "score-binary-nan": (5, b"\1" + _string(b"m") + struct.pack("<d", float("nan"))),
    "zset-listpack-text": (17, _string(listpack([b"m", b"one"]))),
    "list-node-container-3": (18, b"\1\3" + _string(b"element")),
    "number-as-listpack": (16, b"\xc0\7"),
    "ttl-negative": (25, bytes(8) + _string(listpack([b"f", b"v", -1]))),
    "ttl-text": (25, bytes(8) + _string(listpack([b"f", b"v", b"soon"]))),
    "ttl-too-late": (25, bytes(8) + _string(listpack([b"f", b"v", 1 << 50]))),
    "entry-piece-count": (15, _stream(_node(1, 0, 1, b"f", 0, 2, 0, 0, b"v", 5))),
    "master-entry-end": (15, _stream(_node(1, 0, 1, b"f", 7, 2, 0, 0, b"v", 4))),
    "consumer-id-not-in-group": (
        15,
        _stream(
            _node(1, 0, 1, b"f", 0, 2, 0, 0, b"v", 4),
            b"\1" + _string(b"g") + b"\1\0\0\1" + _string(b"c") + bytes(8) + b"\1" + bytes(16),
        ),
    ),
    "pending-twice-in-one-consumer": (
        15,
        _stream(
            _node(1, 0, 1, b"f", 0, 2, 0, 0, b"v", 4),
            b"\1" + _string(b"g") + b"\1\0\1" + bytes(16) + bytes(8) + b"\1"
            b"\1" + _string(b"c") + bytes(8) + b"\2" + bytes(32),
        ),
    ),
    "pre-release-module": (6, b"\0\0"),
}


@pytest.mark.parametrize("check", FORMS)
@pytest.mark.parametrize(("value_type", "value"), SOUND.values(), ids=SOUND.keys())
def test_sound_values_pass(check: Any, value_type: int, value: bytes) -> None:
    check(value_type, False, value)


@pytest.mark.parametrize("check", FORMS)
@pytest.mark.parametrize(("value_type", "value"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_values_are_refused(check: Any, value_type: int, value: bytes) -> None:
    with pytest.raises(CorruptRdb):
        check(value_type, False, value)


@pytest.mark.parametrize("check", FORMS)
def test_a_long_score_text_takes_no_square_time(check: Any) -> None:
    value = _string(listpack([b"m", b"1" * 1_000_000 + b"x"]))
    began = time.perf_counter()

    with pytest.raises(CorruptRdb, match="score"):
        check(17, False, value)

    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("check", FORMS)
def test_error_inside_a_compressed_container_names_both_places(check: Any) -> None:

    body = bytearray(listpack([b"a" * 40, b"b" * 40]))
    body[-1] = 0xFE
    packed = compress(bytes(body))
    value = b"\xc3" + bytes([len(packed), 0x40, len(body)]) + packed

    with pytest.raises(CorruptRdb, match="when decompressed") as caught:
        check(20, False, value)

    assert caught.value.offset == 0
