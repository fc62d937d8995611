"""What the snapshot transcoder makes of a file, and what the reference reader says it must make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from engine.codec.plan import SnapshotPlan
from engine.settings import ConflictPolicy
from tests.oracle.rdb_reference import ValueReader, dump_payload
from tests.oracle.records import Record, Snapshot

ALL_TYPES = frozenset(range(65)) - {6, 8}
PLAN = SnapshotPlan(
    target_rdb_version=11,
    redis_types=ALL_TYPES,
    valkey_types=ALL_TYPES,
    strings_as_set=False,
    key_metadata=True,
)

Command = tuple[int, tuple[bytes, ...]]  # database, words


def plan_like(**changes: Any) -> SnapshotPlan:
    return replace(PLAN, **changes)


def outputs(transcoder: Any, chunks: Iterable[bytes], *, flush: bool = False) -> Iterator[Any]:
    """Every block of a file fed in these chunks; the RDB must be complete at the end."""
    for chunk in chunks:
        transcoder.feed(chunk)
        while (block := transcoder.next_block(flush)) is not None:
            yield block
    while (block := transcoder.next_block(True)) is not None:
        yield block
    transcoder.finish()


def words(encoded: bytes) -> Iterator[tuple[bytes, ...]]:
    """The commands in RESP bytes: whole ones, or an assertion fails."""
    at = 0

    def number(mark: bytes) -> int:
        nonlocal at
        end = encoded.index(b"\r\n", at)
        assert encoded[at : at + 1] == mark, encoded[at : at + 20]
        value = int(encoded[at + 1 : end])
        at = end + 2
        return value

    while at < len(encoded):
        command = []
        for _ in range(number(b"*")):
            size = number(b"$")
            command.append(encoded[at : at + size])
            assert encoded[at + size : at + size + 2] == b"\r\n"
            at += size + 2
        assert at <= len(encoded)
        yield tuple(command)


def commands(blocks: Iterable[Any]) -> list[Command]:
    """All commands but SELECT, each with the database selected for it; checks the blocks' counts."""
    found: list[Command] = []
    for block in blocks:
        db: int | None = (
            None  # a block must select for itself: it may be the first on its connection
        )
        replies = keys = 0
        for command in words(block.data):
            replies += 1
            if command[0] == b"SELECT":
                db = int(command[1])
                continue
            assert db is not None
            keys += command[0] in (b"RESTORE", b"SET")
            found.append((db, command))
        assert (replies, keys) == (block.replies, block.keys)
    return found


def is_empty_collection(record: Record) -> bool:
    """A collection whose count is 0: servers pass over such a key. A stream may be empty."""
    reader = ValueReader(record.value, is_valkey=False)
    return record.value_type in (1, 2, 3, 4, 5, 14, 18, 22) and reader.length() == 0


def expected_restore(record: Record, plan: SnapshotPlan) -> Command:
    payload = dump_payload(record.value_type, record.value, plan.target_rdb_version)
    if record.key_meta and plan.key_metadata:
        payload = payload_with_metadata(record, plan.target_rdb_version)
    ttl = 0 if record.expire_ms is None else max(record.expire_ms, 1)
    command = [b"RESTORE", record.key, b"%d" % ttl, payload]
    if plan.on_conflict is ConflictPolicy.REPLACE:
        command.append(b"REPLACE")
    if record.expire_ms is not None:
        command.append(b"ABSTTL")
    if record.freq is not None:
        command += [b"FREQ", b"%d" % record.freq]
    elif record.idle_seconds is not None:
        command += [b"IDLETIME", b"%d" % min(record.idle_seconds, 0x7FFFFFFF)]
    return record.db, tuple(command)


def payload_with_metadata(record: Record, rdb_version: int) -> bytes:
    # dump_payload puts one byte first: take it from the metadata, which is opcode 243 itself.
    rest = record.key_meta[1:] + bytes([record.value_type]) + record.value
    return dump_payload(record.key_meta[0], rest, rdb_version)


def expected_set(record: Record) -> Command:
    reader = ValueReader(record.value, is_valkey=False)
    command = [b"SET", record.key, reader.string()]
    if record.expire_ms is not None:
        command += [b"PXAT", b"%d" % max(record.expire_ms, 1)]
    return record.db, tuple(command)


def goes_as_set(record: Record) -> bool:
    is_plain = record.value_type == 0 and record.value[0] < 0xC0
    return is_plain and record.idle_seconds is None and record.freq is None and not record.key_meta


def expected_keys(records: list[Record], plan: SnapshotPlan) -> list[Command]:
    """The command of every key, in file order."""
    return [
        expected_set(record)
        if plan.strings_as_set and goes_as_set(record)
        else expected_restore(record, plan)
        for record in records
        if not is_empty_collection(record)
    ]


def key_commands(found: list[Command]) -> list[Command]:
    return [entry for entry in found if entry[1][0] in (b"RESTORE", b"SET")]


def other_commands(found: list[Command]) -> list[tuple[bytes, ...]]:
    """All others but the expiries of KeyDB's members, which have their own test."""
    passed_over = (b"RESTORE", b"SET", b"HPEXPIREAT")
    return [entry[1] for entry in found if entry[1][0] not in passed_over]


def expected_other(snapshot: Snapshot) -> list[tuple[bytes, ...]]:
    """Functions and scripts, which stand apart in the file."""
    found: list[tuple[bytes, ...]] = []
    found += [(b"SCRIPT", b"LOAD", value) for name, value in snapshot.aux if name == b"lua"]
    found += [(b"FUNCTION", b"LOAD", b"REPLACE", code) for code in snapshot.functions]
    found += [
        (b"FUNCTION", b"LOAD", b"REPLACE", b"#!lua name=" + it["name"] + b"\n" + it["code"])
        for it in snapshot.pre_release_functions
    ]
    return found
