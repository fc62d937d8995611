"""Every value of the corpus, written as commands, is the same on every server here as when it is restored whole."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from engine.codec.command_text import commands_in
from engine.codec.decode import decode_payload, decode_value
from engine.codec.logical import KeyRecord, LogicalValue, StreamDetails
from engine.codec.part_names import PART_PREFIX
from engine.codec.plan import SnapshotPlan
from engine.codec.rdb_records import RecordReader
from engine.codec.snapshot import SnapshotTranscoder
from engine.codec.stream_expander import LOST_PENDING
from engine.settings import TargetSettings
from engine.target.capabilities import Capabilities, probe_target
from tests.codec.snapshot_commands import outputs
from tests.corpus_files import OpenDump, open_dumps
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.live

SHORT = open_dumps("default", "bigenc")
LONG = [it for it in open_dumps() if it not in SHORT]
MODULE = 7
FAR_MS = 4_000_000_000_000
# Set by whoever makes the key, and by no command.
_SEEN = ("seen-time", "active-time", "inactive", "idle")
_FORM = ("radix-tree-keys", "radix-tree-nodes")


def _commands(dump: OpenDump, target: Capabilities, **changes: Any) -> tuple[Any, Any]:
    plan = SnapshotPlan(
        target_rdb_version=target.rdb_version,
        redis_types=target.redis_types,
        valkey_types=target.valkey_types,
        functions=target.functions,
        drops_field_ttls=True,
        skips_refused=True,
        stream_counters=target.level >= (7, 0),
        creates_consumers=target.level >= (6, 2),
        part_suffix=b"task:0",
        **changes,
    )
    transcoder = SnapshotTranscoder(plan)
    blocks = outputs(transcoder, [dump.rdb])
    return [words for block in blocks for words in commands_in(block.data)], transcoder


def _run(client: Any, commands: list[list[bytes]]) -> None:
    client.execute_command("FLUSHALL")
    pipe = client.pipeline(transaction=False)
    for words in commands:
        pipe.execute_command(*words)
    answers = pipe.execute(raise_on_error=False)
    failed = [
        (words[:3], str(it))
        for words, it in zip(commands, answers, strict=True)
        if isinstance(it, redis.ResponseError)
        # All of a hash's fields had expired.
        and not (words[0] == b"RENAME" and "no such key" in str(it))
        # A value of a module that the server lacks: these go whole in any case.
        and not (words[0] == b"RESTORE" and words[3][0] == MODULE)
    ]
    assert failed == []


def _stream_facts(client: Any, key: bytes) -> Any:
    """XINFO STREAM … FULL of everything, without what no command sets."""

    def plain(reply: Any) -> Any:
        if not isinstance(reply, list):
            return reply
        if reply and isinstance(reply[0], bytes) and len(reply) % 2 == 0 and reply[0].islower():
            pairs = zip(reply[::2], reply[1::2], strict=True)
            return {
                name.decode(): plain(value)
                for name, value in pairs
                if isinstance(name, bytes) and name.decode() not in _SEEN + _FORM
            }
        return [plain(it) for it in reply]

    return plain(client.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0))


def _records(dump: OpenDump) -> list[KeyRecord]:
    reader = RecordReader(1 << 40)
    reader.feed(dump.rdb)
    found: list[KeyRecord] = []
    while batch := reader.next_records(1000):
        found += [it for it in batch if isinstance(it, KeyRecord)]
    return found


def _comparable(value: LogicalValue, has_field_ttls: bool) -> Any:
    items: list[Any] = value.items
    if value.kind == "hash":
        kept = [it for it in items if not has_field_ttls or not 0 <= it[2] < FAR_MS]
        return sorted(kept if has_field_ttls else [it[:2] for it in kept])
    if value.kind == "zset":
        return sorted((member, score + 0.0) for member, score in items)
    return sorted(items) if value.kind == "set" else items


def _facts(client: Any, records: list[KeyRecord]) -> dict[tuple[int, bytes], Any]:
    found = {}
    for record in records:
        client.execute_command("SELECT", record.db)
        payload = client.execute_command("DUMP", record.key)
        if payload is None or record.value_type in (7, 64):
            continue
        value = decode_payload(payload)
        stream = _stream_facts(client, record.key) if value.kind == "stream" else None
        expiry = client.execute_command("PTTL", record.key)
        found[record.db, record.key] = (value, stream, expiry >= 0)
    return found


@pytest.mark.parametrize("name", SERVER_NAMES)
@pytest.mark.parametrize(
    "dumps",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_values_as_commands_are_the_values_restored(
    name: str, dumps: list[OpenDump], start_server: StartServer
) -> None:
    server = start_server(name, config={"databases": 70000})
    target = await probe_target(server.endpoint, TargetSettings())
    compared = 0
    with server.client() as client:
        client.response_callbacks.clear()
        for dump in dumps:
            records = _records(dump)
            whole, _ = _commands(dump, target)
            _run(client, whole)
            restored = _facts(client, records)
            parts, transcoder = _commands(dump, target, big_value_bytes=1)
            _run(client, parts)
            expanded = _facts(client, records)
            assert transcoder.big_values > 0
            assert list(client.execute_command("KEYS", PART_PREFIX + b"*")) == []
            assert restored.keys() == expanded.keys(), dump.id
            sources = {(it.db, it.key): it for it in records}
            lost = 0
            for place in restored:
                source = sources[place]
                value = decode_value(source.value_type, source.is_valkey, source.value)
                lost += _compare(value, restored[place], expanded[place], target, (dump.id, place))
                compared += 1
            assert lost == transcoder.not_carried.get(LOST_PENDING, 0), dump.id

    assert compared > 3000


def _compare(source: LogicalValue, restored: Any, expanded: Any, target: Any, where: Any) -> int:
    """How many pending entries of deleted ones the second lacks; all else must be equal."""
    one, other = restored[0], expanded[0]
    has_ttls = target.has_field_ttls
    assert _comparable(source, has_ttls) == _comparable(other, has_ttls), where
    assert one.kind == other.kind
    assert restored[2] == expanded[2], where
    lost = 0
    if restored[1] is not None:
        assert isinstance(source.details, StreamDetails)
        is_old = source.details.first_id is None
        if (
            is_old
        ):  # the oldest type does not say these, and a server that loads it does not look for them
            for facts in (restored[1], expanded[1]):
                facts.pop("max-deleted-entry-id", None)
                if not source.items:
                    facts.pop("recorded-first-entry-id", None)
        for group, its in zip(restored[1]["groups"], expanded[1]["groups"], strict=True):
            lost += _leave_out_lost(group, its, is_old)
    assert restored[1] == expanded[1], where
    return lost


def _leave_out_lost(group: Any, its: Any, is_old: bool) -> int:
    kept = {it[0] for it in its["pending"]}
    lost = [it for it in group["pending"] if it[0] not in kept]
    group["pending"] = [it for it in group["pending"] if it[0] in kept]
    group["pel-count"] -= len(lost)
    for consumer in group["consumers"]:
        consumer["pel-count"] -= sum(it[0] not in kept for it in consumer["pending"])
        consumer["pending"] = [it for it in consumer["pending"] if it[0] in kept]
    if is_old and "entries-read" in group:  # nor that: a server estimates it
        group.pop("entries-read"), its.pop("entries-read")
        group.pop("lag"), its.pop("lag")
    return len(lost)
