"""The compiled transcoder against the plain reader, the servers' own DUMPs and rdbtools."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import CorruptRdb, UnsupportedByTarget
from engine.settings import ConflictPolicy
from tests.codec.interpreted_form import interpreted
from tests.codec.snapshot_commands import (
    PLAN,
    commands,
    expected_keys,
    expected_other,
    key_commands,
    other_commands,
    outputs,
    plan_like,
    words,
)
from tests.corpus_files import (
    OpenDump,
    RecordedStream,
    all_open_dumps,
    has_pre_release_module,
    open_dumps,
    streams,
    text_or_digest,
)
from tests.oracle.rdb_reference import dump_payload, payload_value, read_rdb

InterpretedTranscoder: Any = interpreted("snapshot").SnapshotTranscoder
SMALL_BYTES = 20_000


def _params(dumps: list[OpenDump]) -> list[Any]:
    return [pytest.param(dump, id=dump.id) for dump in dumps]


READABLE = open_dumps()


def _encoded(file: bytes, chunks: list[bytes], plan: Any = PLAN, form: Any = None) -> bytes:
    transcoder = (form or SnapshotTranscoder)(plan)
    return b"".join(block.data for block in outputs(transcoder, chunks))


def _cut(file: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(file) + 1) for place in places), len(file)]
    return [file[start:end] for start, end in pairwise(edges)]


# --- content ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strings_as_set", [False, True], ids=["restore", "set"])
@pytest.mark.parametrize("dump", _params(READABLE))
def test_commands_are_those_the_plain_reader_derives(dump: OpenDump, strings_as_set: bool) -> None:
    file = dump.rdb
    records, snapshot = read_rdb(file)
    plan = plan_like(
        strings_as_set=strings_as_set, target_rdb_version=snapshot.version, check_values=True
    )

    transcoder = SnapshotTranscoder(plan)
    found = commands(outputs(transcoder, [file]))

    assert expected_keys(records, plan) == key_commands(found)
    assert expected_other(snapshot) == other_commands(found)
    assert len(records) == transcoder.keys_read
    functions = len(snapshot.functions) + len(snapshot.pre_release_functions)
    assert functions == transcoder.functions_read
    assert snapshot.end == transcoder.bytes_read
    assert dump.expected["rdb"]["bytes_after_end"] == transcoder.bytes_left_over


@pytest.mark.parametrize("dump", _params([dump for dump in READABLE if dump.has_server_dumps]))
def test_payloads_are_the_servers_own(dump: OpenDump) -> None:
    answers = {(answer.db, str(answer.key)): answer for answer in dump.server_dumps}
    version = next(iter(answers.values())).rdb_version
    _, snapshot = read_rdb(dump.rdb)
    found = commands(outputs(SnapshotTranscoder(plan_like(target_rdb_version=version)), [dump.rdb]))

    compared = differing = 0
    for db, command in key_commands(found):
        answer = answers.get((db, str(text_or_digest(command[1]))))
        if answer is None:
            continue
        value_type, value, behind = payload_value(answer.payload, snapshot.is_valkey)
        # KeyDB's AUX behind the value is the one thing a DUMP has that an RDB value has not.
        wanted = dump_payload(value_type, value, version) if behind else answer.payload
        compared += 1
        differing += wanted != command[3]

    assert len(answers) == compared
    # A hash table comes in any order: two of the corpus' 3,780 answers are so.
    assert differing <= 1


@pytest.mark.parametrize("dump", _params(open_dumps("dbs", "lru", "lfu", "expired")))
def test_keys_and_times_are_what_the_server_described(dump: OpenDump) -> None:
    found = key_commands(commands(outputs(SnapshotTranscoder(PLAN), [dump.rdb])))

    described = {
        (int(db), str(entry["key"])): (
            entry["expire_at_ms"],
            entry.get("idle_s"),
            entry.get("freq"),
        )
        for db, entries in dump.expected["dbs"].items()
        for entry in entries
    }
    assert described == {
        (db, str(text_or_digest(command[1]))): _times(command) for db, command in found
    }


def _times(command: tuple[bytes, ...]) -> tuple[int | None, int | None, int | None]:
    options = command[4:]
    ttl = int(command[2]) if b"ABSTTL" in options else None
    idle = int(options[options.index(b"IDLETIME") + 1]) if b"IDLETIME" in options else None
    freq = int(options[options.index(b"FREQ") + 1]) if b"FREQ" in options else None
    return ttl, idle, freq


# --- chunks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dump", _params(READABLE))
def test_byte_by_byte_gives_the_same_bytes(dump: OpenDump) -> None:
    file = dump.rdb
    if len(file) >= SMALL_BYTES:
        step = 997  # a prime, so that cuts fall everywhere
        chunks = [file[at : at + step] for at in range(0, len(file), step)]
    else:
        chunks = [file[at : at + 1] for at in range(len(file))]

    assert _encoded(file, [file]) == _encoded(file, chunks)


@pytest.mark.parametrize("dump", _params([d for d in READABLE if d.profile in ("tiny", "bigenc")]))
@settings(max_examples=25, deadline=None)
@given(places=st.lists(st.integers(0, 1 << 20), max_size=40))
def test_random_cuts_give_the_same_bytes(dump: OpenDump, places: list[int]) -> None:
    file = dump.rdb

    assert _encoded(file, [file]) == _encoded(file, _cut(file, places))


@pytest.mark.parametrize("dump", _params(open_dumps("bigenc", "dbs")[::3]))
@settings(max_examples=10, deadline=None)
@given(places=st.lists(st.integers(0, 1 << 20), max_size=10), block_bytes=st.integers(1, 5000))
def test_flushes_and_block_sizes_leave_the_commands_alone(
    dump: OpenDump, places: list[int], block_bytes: int
) -> None:
    file = dump.rdb
    whole = commands(outputs(SnapshotTranscoder(PLAN), [file]))
    plan = plan_like(block_bytes=block_bytes)

    cut = commands(outputs(SnapshotTranscoder(plan), _cut(file, places), flush=True))

    assert whole == cut


@pytest.mark.parametrize("dump", _params([d for d in READABLE if d.profile in ("tiny", "testmod")]))
def test_interpreted_form_gives_the_same_bytes(dump: OpenDump) -> None:
    file = dump.rdb
    bytewise = [file[at : at + 1] for at in range(len(file))]

    expected = _encoded(file, [file])

    assert expected == _encoded(file, [file], form=InterpretedTranscoder)
    assert expected == _encoded(file, bytewise, form=InterpretedTranscoder)


def test_long_string_in_small_chunks_comes_out_whole() -> None:
    text = bytes(range(256)) * 20_000
    record = b"\0\1k\x80" + len(text).to_bytes(4, "big") + text
    file = b"REDIS0011" + record + b"\xff" + bytes(8)  # checksum 0: none was made
    chunks = [file[at : at + 4096] for at in range(0, len(file), 4096)]

    found = commands(outputs(SnapshotTranscoder(plan_like(strings_as_set=True)), chunks))

    assert [(0, (b"SET", b"k", text))] == found


@pytest.mark.parametrize("dump", _params([d for d in READABLE if d.wire is not None]))
def test_rdb_inside_a_recorded_full_sync_ends_where_it_should(dump: OpenDump) -> None:
    wire = dump.wire or b""
    start = dump.expected["sync"]["rdb_offset"]
    transcoder = SnapshotTranscoder(PLAN)

    blocks = list(outputs(transcoder, [wire[start:]]))

    assert _encoded(dump.rdb, [dump.rdb]) == b"".join(block.data for block in blocks)
    assert len(wire) - start - len(dump.rdb) == transcoder.bytes_left_over


@pytest.mark.parametrize("stream", [pytest.param(s, id=s.id) for s in streams()])
def test_snapshots_of_the_recorded_streams(stream: RecordedStream) -> None:
    expected, wire = stream.expected, stream.wire
    file = wire[expected["rdb_start"] : expected["rdb_start"] + expected["rdb_len"]]
    records, snapshot = read_rdb(file)
    plan = plan_like(check_values=True)

    found = commands(outputs(SnapshotTranscoder(plan), _cut(file, list(range(0, len(file), 1009)))))

    assert expected_keys(records, plan) == key_commands(found)
    assert expected_other(snapshot) == other_commands(found)


# --- what the plan says -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [ConflictPolicy.SKIP, ConflictPolicy.FAIL])
def test_without_replace_every_key_goes_as_restore(policy: ConflictPolicy) -> None:
    dump = open_dumps("default", server="redis-6.2")[0]
    records, _ = read_rdb(dump.rdb)
    plan = plan_like(on_conflict=policy, strings_as_set=True)

    found = key_commands(commands(outputs(SnapshotTranscoder(plan), [dump.rdb])))

    # SET would overwrite; RESTORE without REPLACE answers BUSYKEY.
    assert expected_keys(records, plan_like(on_conflict=policy)) == found


@pytest.mark.parametrize("dump", _params(open_dumps("tiny")))
def test_a_type_the_target_lacks_is_named(dump: OpenDump) -> None:
    records, snapshot = read_rdb(dump.rdb)
    types = frozenset({0})  # in this form and in any other
    plan = plan_like(redis_types=types, valkey_types=types)
    first = next(record for record in records if record.value_type != 0)

    with pytest.raises(UnsupportedByTarget) as caught:
        list(outputs(SnapshotTranscoder(plan), [dump.rdb]))

    assert repr(first.key) in str(caught.value)
    assert snapshot.version > 0


def test_pre_release_module_value_is_refused() -> None:
    dump = next(dump for dump in all_open_dumps() if has_pre_release_module(dump))

    with pytest.raises(CorruptRdb, match="release candidate"):
        list(outputs(SnapshotTranscoder(PLAN), [dump.rdb]))


@pytest.mark.parametrize("chunk_bytes", [1, 64, 1 << 20])
@pytest.mark.parametrize("size", [400, 501])
def test_the_limit_of_an_element_does_not_depend_on_the_chunks(size: int, chunk_bytes: int) -> None:
    element = (0x4000 | size).to_bytes(2, "big") + b"e" * size
    file = b"REDIS0011\1\1k\x0a" + element * 10 + b"\xff" + bytes(8)
    chunks = [file[at : at + chunk_bytes] for at in range(0, len(file), chunk_bytes)]
    transcoder = SnapshotTranscoder(plan_like(value_limit_bytes=500))

    if size <= 500:
        blocks = list(outputs(transcoder, chunks))
        pushes = [it for b in blocks for it in words(b.data) if it[0] == b"RPUSH"]
        assert sum(it[2:].count(b"e" * size) for it in pushes) == 10
        return
    with pytest.raises(UnsupportedByTarget, match=r"hold b'k'.*elements has 50[1-9] bytes"):
        list(outputs(transcoder, chunks))
