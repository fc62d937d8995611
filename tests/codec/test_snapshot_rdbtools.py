"""rdbtools, written by others, on the same files: as far as it goes, which is RDB version 9."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rdbtools import RdbCallback, RdbParser

from engine.codec.snapshot import SnapshotTranscoder
from tests.codec.snapshot_commands import PLAN, commands, key_commands, outputs
from tests.corpus_files import OpenDump, open_dumps

NEWEST_VERSION = 9
LAST_SECOND = 221_925_052_800  # rdbtools' parser.to_datetime clamps there
TAKES_65535_FOR_A_COUNT = "redis-5.0.14/large"  # a hash ziplist of more entries: "count them"
KINDS = {
    "string": {0},
    "list": {1, 10, 14},
    "set": {2, 11},
    "zset": {3, 5, 12},
    "hash": {4, 9, 13},
    "stream": {15},
    "module": {7},
}
Key = tuple[int, bytes, str, int | None]


class KeyCollector(RdbCallback):  # type: ignore[misc]  # rdbtools has no types
    """Notes database, key, kind and expiry of everything that rdbtools comes by."""

    def __init__(self) -> None:
        super().__init__(string_escape=None)
        self.db = 0
        self.keys: list[Key] = []

    def _note(self, key: Any, kind: str, expiry: datetime | None) -> None:
        text = key if isinstance(key, bytes) else str(key).encode()
        moment = None
        if expiry is not None:
            since = expiry.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
            moment = since // timedelta(milliseconds=1)
        self.keys.append((self.db, text, kind, moment))

    def start_database(self, db_number: int) -> None:
        self.db = db_number

    def set(self, key: Any, _value: Any, expiry: datetime | None, **_: Any) -> None:
        self._note(key, "string", expiry)

    def start_hash(self, key: Any, _length: int, expiry: datetime | None, **_: Any) -> None:
        self._note(key, "hash", expiry)

    def start_set(self, key: Any, _count: int, expiry: datetime | None, **_: Any) -> None:
        self._note(key, "set", expiry)

    def start_list(self, key: Any, expiry: datetime | None, **_: Any) -> None:
        self._note(key, "list", expiry)

    def start_sorted_set(self, key: Any, _length: int, expiry: datetime | None, **_: Any) -> None:
        self._note(key, "zset", expiry)

    def start_stream(self, key: Any, _count: int, expiry: datetime | None, **_: Any) -> None:
        self._note(key, "stream", expiry)

    def start_module(self, key: Any, _name: str, expiry: datetime | None, **_: Any) -> bool:
        self._note(key, "module", expiry)
        return False


def _is_for_rdbtools(dump: OpenDump) -> bool:
    version = int(dump.rdb[5:9]) if dump.rdb.startswith(b"REDIS") else 80
    is_beyond_it = dump.profile == "keydb" or dump.id == TAKES_65535_FOR_A_COUNT
    return version <= NEWEST_VERSION and not is_beyond_it


def _ours(dump: OpenDump) -> list[Key]:
    kinds = {number: kind for kind, numbers in KINDS.items() for number in numbers}
    found: list[Key] = []
    for db, command in key_commands(commands(outputs(SnapshotTranscoder(PLAN), [dump.rdb]))):
        moment = int(command[2]) if b"ABSTTL" in command[4:] else None
        if dump.server.startswith("keydb"):
            moment = None  # rdbtools forgets an expiry when KeyDB's AUX stands before the key
        elif moment is not None and moment >= LAST_SECOND * 1000:
            moment = LAST_SECOND * 1000 + moment % 1000
        found.append((db, command[1], kinds[command[3][0]], moment))
    return found


@pytest.mark.parametrize(
    "dump", [pytest.param(d, id=d.id) for d in open_dumps() if _is_for_rdbtools(d)]
)
def test_rdbtools_finds_the_same_keys(dump: OpenDump) -> None:
    collector = KeyCollector()

    RdbParser(collector).parse_fd(io.BytesIO(dump.rdb))

    theirs = collector.keys
    if dump.server.startswith("keydb"):
        theirs = [(db, key, kind, None) for db, key, kind, _ in theirs]
    assert theirs == _ours(dump)
