"""Fuzz target: any bytes, taken as an RDB or as a value, decode or end in CorruptRdb.

    python -m tests.fuzz.fuzz_decode FOLDER [atheris/libFuzzer options] [corpus folders]

As fuzz_snapshot. The first byte says what follows: 0 a whole RDB, 1 and 2 the value of a Redis or Valkey key,
with its type before it.
"""

from __future__ import annotations

from typing import Any

import engine.codec.bridge as built_bridge
import engine.codec.decode as built_decode
import engine.codec.rdb_records as built_records
from engine.codec.logical import KeyRecord
from engine.errors import CorruptRdb
from tests.codec.bridge_targets import TARGETS
from tests.corpus_files import corrupt_dumps, open_dumps
from tests.fuzz.fuzzing import fuzz

SEED_LIMIT_BYTES = 2000
VALUE_LIMIT_BYTES = 1 << 40
VALUES_PER_TYPE = 4
STREAM_TYPES = (15, 19, 21)  # their nodes are copied unread
BUILT = (built_decode, built_records, built_bridge)


def run(data: bytes, modules: Any = BUILT) -> None:
    """One input. Whatever is raised here but an assertion's or a codec's bug is swallowed."""
    decode, records, bridge = modules
    if len(data) < 2:
        return
    try:
        if data[0] == 0:
            _read_file(data[1:], decode, records)
        else:
            _bridged(data[1], data[0] == 2, data[2:], bridge)
            decode.decode_value(data[1], data[0] == 2, data[2:])
    except CorruptRdb as error:
        offset = error.offset
    else:
        return
    assert 0 <= offset <= len(data), offset


def _bridged(value_type: int, is_valkey: bool, value: bytes, bridge: Any) -> None:
    """For the oldest target and for one of the other family: what comes out is a value."""
    for _, redis_types, valkey_types in (TARGETS["redis-6.2"], TARGETS["valkey-9.1"]):
        written = bridge.ValueBridge(redis_types, valkey_types, True).bridged(
            value_type, is_valkey, value
        )
        if written is not None and written[0] not in STREAM_TYPES:
            built_decode.decode_value(written[0], written[0] == 22, written[1])


def _read_file(file: bytes, decode: Any, records: Any) -> None:
    reader = records.RecordReader(VALUE_LIMIT_BYTES)
    reader.feed(file)
    while batch := reader.next_records(16):
        for record in batch:
            if hasattr(record, "value_type"):
                try:
                    decode.decode_value(record.value_type, record.is_valkey, record.value)
                except CorruptRdb as error:
                    raise record.located(error) from error
    reader.finish()


def seeds() -> list[bytes]:
    """Whole files, and values of every type that the corpus has."""
    files = [dump.rdb for dump in open_dumps("tiny", "testmod")]
    files += [dump.rdb for dump in corrupt_dumps()]
    found = [b"\0" + file for file in files if len(file) <= SEED_LIMIT_BYTES]
    taken: dict[tuple[bool, int], int] = {}
    for dump in open_dumps("default", "bigenc", "keydb"):
        reader = built_records.RecordReader(VALUE_LIMIT_BYTES)
        reader.feed(dump.rdb)
        while batch := reader.next_records(100):
            for record in batch:
                if not isinstance(record, KeyRecord) or len(record.value) > SEED_LIMIT_BYTES:
                    continue
                kind = (record.is_valkey, record.value_type)
                taken[kind] = taken.get(kind, 0) + 1
                if taken[kind] <= VALUES_PER_TYPE:
                    head = bytes([1 + record.is_valkey, record.value_type])
                    found.append(head + record.value)
    return found


def main() -> None:
    fuzz(run, seeds(), ("decode", "rdb_records", "bridge"))


if __name__ == "__main__":
    main()
