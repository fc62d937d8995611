"""Whatever the target lacks reaches it as something it knows, with the same content, or is refused by name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from engine.codec.decode import decode_payload, decode_value
from engine.codec.logical import KeyRecord, LogicalValue, StreamDetails
from engine.codec.rdb_records import RecordReader
from engine.codec.snapshot import KEYDB_MEMBER_TTL, SnapshotTranscoder
from engine.errors import UnsupportedByTarget
from tests.codec.bridge_targets import TARGETS, plan_for
from tests.codec.interpreted_form import interpreted
from tests.codec.snapshot_commands import commands, key_commands, outputs
from tests.corpus_files import OpenDump, open_dumps

InterpretedTranscoder: Any = interpreted("snapshot").SnapshotTranscoder
STREAM_TYPES = (15, 19, 21, 26)
DUMPS = [
    pytest.param(dump, id=dump.id)
    for dump in open_dumps("default", "bigenc", "bigpack", "expired", "keydb", "modules", "testmod")
]


def _keys(file: bytes) -> dict[tuple[int, bytes], KeyRecord]:
    reader = RecordReader(1 << 40)
    reader.feed(file)
    found = {}
    while batch := reader.next_records(1000):
        found.update({(it.db, it.key): it for it in batch if isinstance(it, KeyRecord)})
    return found


def _without_field_ttls(value: LogicalValue) -> list[Any]:
    items: list[Any] = value.items
    return [item[:2] for item in items] if value.kind == "hash" else items


def _same(source: LogicalValue, written: LogicalValue, has_field_ttls: bool) -> None:
    assert source.kind == written.kind
    if has_field_ttls:
        assert source.items == written.items
    else:
        assert _without_field_ttls(source) == _without_field_ttls(written)
        assert source.kind != "hash" or {item[2] for item in written.items} <= {-1}  # type: ignore[index]
    if isinstance(source.details, StreamDetails):
        assert isinstance(written.details, StreamDetails)
        _same_stream(source.details, written.details)


def _same_stream(source: StreamDetails, written: StreamDetails) -> None:
    """All that the source says and the type written has room for."""
    says_all = None not in (source.first_id, written.first_id)
    assert (source.length, source.last_id) == (written.length, written.last_id)
    if says_all:
        facts = [(it.first_id, it.max_deleted_id, it.entries_added) for it in (source, written)]
        assert facts[0] == facts[1]
    for group, other in zip(source.groups, written.groups, strict=True):
        assert (group.name, group.last_id, group.pending) == (
            other.name,
            other.last_id,
            other.pending,
        )
        if says_all:
            assert group.entries_read == other.entries_read
        for consumer, its in zip(group.consumers, other.consumers, strict=True):
            assert (consumer.name, consumer.seen_at_ms, consumer.pending) == (
                its.name,
                its.seen_at_ms,
                its.pending,
            )
            assert None in (consumer.active_at_ms, its.active_at_ms) or (
                consumer.active_at_ms == its.active_at_ms
            )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dump", DUMPS)
def test_every_key_arrives_in_a_form_that_the_target_knows(dump: OpenDump, target: str) -> None:
    version, redis_types, valkey_types = TARGETS[target]
    has_field_ttls = 24 in redis_types or 22 in valkey_types
    keys = _keys(dump.rdb)
    plan = plan_for(target, drops_field_ttls=True, skips_refused=True)
    transcoder = SnapshotTranscoder(plan)

    found = key_commands(commands(outputs(transcoder, [dump.rdb])))

    own_types = valkey_types if version >= 80 else redis_types
    for db, command in found:
        record = keys.pop((db, command[1]))
        payload = command[3]
        assert int.from_bytes(payload[-10:-8], "little") == version
        if payload[0] != record.value_type:
            assert payload[0] in own_types
        if payload[0] == record.value_type and record.value_type in (7, 22):
            continue  # as it is: nothing to compare
        source = decode_value(record.value_type, record.is_valkey, record.value)
        _same(source, decode_payload(payload), has_field_ttls)
    refused = {(db, key) for db, key, what, why in transcoder.refused if "function" not in what}
    for place, record in keys.items():
        is_empty = not decode_value(record.value_type, record.is_valkey, record.value).items
        assert record.value_type == 64 or (is_empty and record.value_type not in STREAM_TYPES)
        assert (place in refused) == (record.value_type == 64)


@pytest.mark.parametrize("target", ["redis-6.2", "valkey-9.1"])
@pytest.mark.parametrize(
    "dump", [pytest.param(d, id=d.id) for d in open_dumps("tiny", server="redis-8")]
)
def test_the_interpreted_form_bridges_to_the_same_bytes(dump: OpenDump, target: str) -> None:
    plan = plan_for(target, drops_field_ttls=True)
    forms = [
        b"".join(block.data for block in outputs(form(plan), [dump.rdb]))
        for form in (SnapshotTranscoder, InterpretedTranscoder)
    ]

    assert forms[0] == forms[1]


def _dump_with_field_ttls() -> OpenDump:
    return open_dumps("tiny", server="redis-8.6.3")[0]


def test_field_ttls_that_the_target_lacks_stop_the_migration_by_name() -> None:
    with pytest.raises(UnsupportedByTarget) as caught:
        list(outputs(SnapshotTranscoder(plan_for("redis-7.0")), [_dump_with_field_ttls().rdb]))

    assert "hx" in str(caught.value)
    assert "--field-ttls drop" in str(caught.value)


def test_keys_left_out_are_noted_with_their_reason_and_the_rest_arrives() -> None:
    dump = _dump_with_field_ttls()
    transcoder = SnapshotTranscoder(plan_for("redis-7.0", skips_refused=True))

    found = key_commands(commands(outputs(transcoder, [dump.rdb])))

    assert sorted(key for _, key, _, _ in transcoder.refused) == [b"hx", b"hxbig"]
    assert all("field TTLs" in why for _, _, _, why in transcoder.refused)
    assert len(found) == dump.expected["key_count"] - 2


def test_dropped_field_ttls_are_counted() -> None:
    transcoder = SnapshotTranscoder(plan_for("redis-7.0", drops_field_ttls=True))

    list(outputs(transcoder, [_dump_with_field_ttls().rdb]))

    assert transcoder.bridge.fell_away == {"field TTLs": 2}
    assert transcoder.refused == []
    assert transcoder.bridged == 4  # both hashes, the set and the stream


@pytest.mark.parametrize("dump", [pytest.param(dump, id=dump.id) for dump in open_dumps("keydb")])
def test_keydbs_expiring_members_of_hashes_become_field_ttls(dump: OpenDump) -> None:
    keys = _keys(dump.rdb)
    in_hashes = {
        (it.db, it.key, member, moment)
        for it in keys.values()
        for member, moment in it.member_expiries
        if it.value_type in (4, 13)
    }
    others = sum(len(it.member_expiries) for it in keys.values()) - len(in_hashes)
    transcoder = SnapshotTranscoder(plan_for("redis-8.2", skips_refused=True))

    found = commands(outputs(transcoder, [dump.rdb]))

    assert in_hashes == {
        (db, words[1], words[5], int(words[2]))
        for db, words in found
        if words[0] == b"HPEXPIREAT" and words[3:5] == (b"FIELDS", b"1")
    }
    assert transcoder.not_carried.get(KEYDB_MEMBER_TTL, 0) == others


def test_the_corpus_holds_something_to_bridge_for_every_target() -> None:
    bridged: Counter[str] = Counter()
    for target in TARGETS:
        for dump in open_dumps("tiny", "bigenc"):
            plan = plan_for(target, drops_field_ttls=True, skips_refused=True)
            transcoder = SnapshotTranscoder(plan)
            list(outputs(transcoder, [dump.rdb]))
            bridged[target] += transcoder.bridged

    assert min(bridged.values()) > 10
    assert len(bridged) == len(TARGETS)
