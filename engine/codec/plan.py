"""What the transcoders need to know of the target and the task, as plain data made once by Python."""

from __future__ import annotations

from dataclasses import dataclass

from engine.codec.command_support import CommandSupport
from engine.selection import EVERYTHING, Selection
from engine.settings import ConflictPolicy

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPlan:
    """How RDB records become target commands.

    target_rdb_version: goes into the footer of every RESTORE payload; the target must accept it.
    redis_types, valkey_types: value types the target loads, by the family of the *source's* magic, because
    numbers from 22 on mean different things in the two families (rdb.h of Redis and of Valkey).
    value_limit_bytes: most that one argument of a command may have. string_limit_bytes: the same of a string on the target.
    strings_as_set: plain strings go as SET, which costs the target less than RESTORE; needs a target with
    SET … PXAT (6.2).
    """

    target_rdb_version: int
    redis_types: frozenset[int]
    valkey_types: frozenset[int]
    on_conflict: ConflictPolicy = ConflictPolicy.REPLACE
    strings_as_set: bool = True
    functions: bool = True  # the target knows FUNCTION LOAD (7.0)
    key_metadata: bool = False  # the target takes KEY_META records in payloads (Redis 8.6)
    block_bytes: int = 128 * 1024
    margin_ms: int = 0  # added to expiries before the transcoder's horizon_ms; 0: none
    value_limit_bytes: int = (
        512 * MIB
    )  # proto-max-bulk-len's default: a larger payload cannot be sent
    string_limit_bytes: int = 512 * MIB
    big_value_bytes: int = 16 * MIB  # larger values go in parts, as commands
    part_suffix: bytes = b""  # of the name under which a big value is built (part_names.py)
    part_tags: bytes | None = None  # slots.slot_tags(): the target is a cluster
    stream_counters: bool = True  # the target takes XSETID … ENTRIESADDED (7.0)
    creates_consumers: bool = True  # it has XGROUP CREATECONSUMER (6.2)
    check_values: bool = False  # walk the inside of every value as well
    is_live: bool = False  # of a server, not of a file: slots that it was taking over are an error
    drops_field_ttls: bool = False  # a target without field TTLs gets such hashes without them
    skips_refused: bool = False  # what the target cannot hold is left out and told, not an error
    selection: Selection = EVERYTHING  # what of the RDB is taken along, and under which names


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """How the command stream becomes target commands.

    checkpoint_key: the hash that tells how far the target is. is_transactional: each block updates it in its own
    transaction; else (at-least-once) blocks are plain commands.
    replid, offset, db: where the stream starts and which database the source had selected there.
    absolute_expiry: relative times (SETEX, EXPIRE, SET … EX; sources before 7.0) are made absolute by the
    moment the bytes were received plus clock_offset_ms (the source's clock minus ours): like the moments in an
    RDB and those newer sources send, they are the source's.
    support: what the target understands, where that may be less than the source sends; None: everything.
    takes_marks: the stream comes from a StreamSelector.
    serial, ledger, margin_since_ms: number of the newest write before the stream's, and what the checkpoint says
    beside the position (checkpoint.py).
    """

    checkpoint_key: bytes
    is_transactional: bool = True
    replid: str
    offset: int
    db: int = 0
    takes_marks: bool = False
    epoch: int = 0
    absolute_expiry: bool = True
    clock_offset_ms: int = 0
    serial: int = 0
    ledger: str = ""
    margin_since_ms: int = 0
    block_bytes: int = 128 * 1024
    support: CommandSupport | None = None
    skips_refused: bool = False  # as SnapshotPlan
    tells_slots: bool = False  # blocks for a slot router say where their commands lie
    replaces_libraries: bool = False  # a library of functions that the target has gives way
