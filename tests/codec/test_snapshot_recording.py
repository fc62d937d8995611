"""The snapshot transcoder records each key it writes, whatever form its name has in the RDB."""

from __future__ import annotations

import pytest

from engine.codec.plan import SnapshotPlan
from engine.codec.snapshot import SnapshotTranscoder
from tests.codec.interpreted_form import interpreted_imports
from tests.codec.recorded_keys import Recorded

EVERY_TYPE = frozenset(range(30))
NAMES = [
    b"",
    b"plain",
    b"12",
    b"-70000",
    b"2000000000",
    b"12345678901234",
    b"a" * 500,
    b"\x00\xff\r\n",
]


def transcode(content: bytes, transcoder: SnapshotTranscoder, recorded: Recorded) -> int:
    """Feed all; each block's keys must be recorded when it comes. Returns how many blocks there were."""
    blocks = keys = 0
    for at in range(0, len(content), 1000):
        transcoder.feed(content[at : at + 1000])
        while (block := transcoder.next_block(False)) is not None:
            blocks += 1
            keys += block.keys
            assert sum(recorded.counts().values()) >= keys
    while (block := transcoder.next_block(True)) is not None:
        blocks += 1
    transcoder.finish()
    return blocks


def make_plan() -> SnapshotPlan:
    return SnapshotPlan(
        target_rdb_version=12, redis_types=EVERY_TYPE, valkey_types=EVERY_TYPE, block_bytes=4096
    )


@pytest.mark.live
def test_every_name_of_a_real_snapshot_is_recorded_in_its_database(start_server) -> None:
    server = start_server("redis-8.2")
    expected: dict[int, set[bytes]] = {}
    for db in (0, 3, 9):
        with server.client(db) as client:
            expected[db] = {*NAMES, *(b"db%d:%d" % (db, number) for number in range(2000))}
            for name in expected[db]:
                client.set(name, "v")
            client.rpush("list", 1)
            client.sadd("set", "a")
            expected[db] |= {b"list", b"set"}
            client.save()
    content = (server.directory / "dump.rdb").read_bytes()

    recorded = Recorded(with_current=True)
    transcoder = SnapshotTranscoder(make_plan())
    transcoder.recorder = recorded.recorder
    assert transcode(content, transcoder, recorded) > 10

    assert recorded.is_exactly(expected)
    assert {db: current.count for db, (_, current) in recorded.sets.items() if current} == {
        db: len(names) for db, names in expected.items()
    }
    with interpreted_imports():
        from engine.codec import key_recorder, key_set, snapshot

        plain = Recorded(key_set.KeySet, key_recorder.KeyRecorder)
        interpreted = snapshot.SnapshotTranscoder(make_plan())
    interpreted.recorder = plain.recorder
    transcode(content, interpreted, plain)
    assert plain.is_exactly(expected)


@pytest.mark.live
def test_without_a_recorder_the_blocks_are_the_same(start_server) -> None:
    server = start_server("redis-8.2")
    with server.client() as client:
        for name in NAMES:
            client.set(name, "v")
        client.save()
    content = (server.directory / "dump.rdb").read_bytes()
    results = []
    for recorded in (None, Recorded()):
        transcoder = SnapshotTranscoder(make_plan())
        if recorded is not None:
            transcoder.recorder = recorded.recorder
        transcoder.feed(content)
        block = transcoder.next_block(True)
        assert block is not None
        results.append(block.data)

    assert results[0] == results[1]
