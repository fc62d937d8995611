"""Every value of the corpus, bridged where it must be, is accepted by every server here and is the same there."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from engine.codec.command_text import commands_in
from engine.codec.decode import decode_payload, decode_value
from engine.codec.logical import KeyRecord, LogicalValue
from engine.codec.plan import SnapshotPlan
from engine.codec.rdb_records import RecordReader
from engine.codec.snapshot import SnapshotTranscoder
from engine.settings import TargetSettings
from engine.target.capabilities import Capabilities, probe_target
from tests.codec.snapshot_commands import outputs
from tests.codec.test_bridge import _same_stream
from tests.corpus_files import OpenDump, open_dumps
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.live

FAR_MS = 4_000_000_000_000
DUMPS = open_dumps("default", "bigenc")
NO_EXPIRY = 0


def _keys(file: bytes) -> list[KeyRecord]:
    reader = RecordReader(1 << 40)
    reader.feed(file)
    found: list[KeyRecord] = []
    while batch := reader.next_records(1000):
        found += [it for it in batch if isinstance(it, KeyRecord)]
    return found


def _commands(dump: OpenDump, target: Capabilities) -> list[list[bytes]]:
    plan = SnapshotPlan(
        target_rdb_version=target.rdb_version,
        redis_types=target.redis_types,
        valkey_types=target.valkey_types,
        functions=target.functions,
        drops_field_ttls=True,
        skips_refused=True,
    )
    blocks = outputs(SnapshotTranscoder(plan), [dump.rdb])
    return [words for block in blocks for words in commands_in(block.data)]


def _comparable(value: LogicalValue, has_field_ttls: bool) -> Any:
    items: list[Any] = value.items
    if value.kind == "hash":
        return sorted(items if has_field_ttls else [item[:2] for item in items])
    if value.kind in {"set", "zset"}:
        return sorted((item + 0.0 if isinstance(item, float) else item) for item in items)
    return items


def _zeros_alike(items: Any) -> Any:
    """Servers with listpacks keep -0.0 as 0."""
    return [(member, score + 0.0) for member, score in items]


@pytest.mark.parametrize("name", SERVER_NAMES)
async def test_what_arrives_is_what_the_dump_holds(name: str, start_server: StartServer) -> None:
    server = start_server(name, config={"databases": 16})
    target = await probe_target(server.endpoint, TargetSettings())
    compared = 0
    with server.client() as client:
        client.response_callbacks.clear()
        for dump in DUMPS:
            keys = _keys(dump.rdb)
            client.execute_command("FLUSHALL")
            pipe = client.pipeline(transaction=False)
            for words in _commands(dump, target):
                pipe.execute_command(*words)
            answers = pipe.execute(raise_on_error=False)
            assert [str(it) for it in answers if isinstance(it, redis.ResponseError)] == []
            compared += _compare(client, keys, target, dump.id)

    assert compared > 4000


def _compare(client: Any, keys: list[KeyRecord], target: Capabilities, name: str) -> int:
    compared = 0
    for record in keys:
        source = decode_value(record.value_type, record.is_valkey, record.value)
        if source.kind in {"module", "cron"} or (source.kind != "stream" and not source.items):
            continue
        if source.kind == "hash" and target.has_field_ttls and _has_expired_fields(source):
            continue  # a server drops them
        client.execute_command("SELECT", record.db)
        payload = client.execute_command("DUMP", record.key)
        assert payload is not None, (name, record.key)
        found = decode_payload(payload)
        one, other = (_comparable(it, target.has_field_ttls) for it in (source, found))
        if source.kind == "zset":
            one, other = _zeros_alike(one), _zeros_alike(other)
        assert one == other, (name, record.key)
        if source.kind == "stream":
            _same_stream(source.details, found.details)  # type: ignore[arg-type]
        expiry = client.execute_command("PTTL", record.key)
        assert (expiry > 0) == (record.expire_at_ms >= 0), (name, record.key)
        compared += 1
    return compared


def _has_expired_fields(value: LogicalValue) -> bool:
    return any(0 <= item[2] < FAR_MS for item in value.items)  # type: ignore[index]
