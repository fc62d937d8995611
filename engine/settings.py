"""Frozen settings, one class a stage, units in the names.

The command line, environment and TOML file are merged in engine/control/options.py; nothing below
`control` reads them. Every default a user can see stands here once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from engine.endpoint import Endpoint
from engine.selection import EVERYTHING, Selection

MIB = 1024 * 1024
GIB = 1024 * MIB


class Method(StrEnum):
    """How much to migrate: the snapshot only, or the snapshot and then the stream."""

    FULL = "full"
    INCREMENTAL = "incremental"


class SourceReader(StrEnum):
    """How a server is read."""

    PSYNC = "psync"  # as a replica
    SCAN = "scan"  # key by key, where PSYNC is refused
    AUTO = "auto"  # as a replica if that is permitted


class ScanChanges(StrEnum):
    """How the scan reader learns of changes."""

    AUTO = "auto"  # notifications where they are on, passes where they are not
    NOTIFICATIONS = "notifications"  # they are on, whether or not the source says so
    ENABLE = "enable"  # the same; they are switched on
    PASSES = "passes"


class SourceKind(StrEnum):
    """What serves the stream, which decides how expiries are kept right and whether it has an end."""

    SERVER = "server"  # it can be asked for its keys' true expiries
    FILE = "file"  # its expiries may be long past; it ends
    SCAN = "scan"  # states of keys, not commands: none depends on a key that is there


class ConflictPolicy(StrEnum):
    """What to do with a key of the snapshot that the target already has."""

    REPLACE = "replace"
    SKIP = "skip"
    FAIL = "fail"


class UnsupportedPolicy(StrEnum):
    """What to do with a key or a command that the target cannot have in any form."""

    STOP = "stop"
    SKIP = "skip"  # leave it out, count it and list it in a report


class CrossSlotPolicy(StrEnum):
    """What to do with a command whose keys are in several slots of the target, where the stream does not tell its effect."""

    RESOLVE = "resolve"  # take what it has made from the source
    STOP = "stop"


class FieldTtlPolicy(StrEnum):
    """What to do with the expiries of hash fields where the target has no such thing."""

    REFUSE = "refuse"  # the hash counts as one that the target cannot have
    DROP = "drop"  # it goes without them


class ResumeMode(StrEnum):
    """After a lost connection: go on by oneself, or stop for the operator."""

    AUTO = "auto"
    MANUAL = "manual"


class DeliveryMode(StrEnum):
    """How often a write may reach the target when something breaks."""

    EXACTLY_ONCE = "exactly-once"  # each block is a transaction that carries its checkpoint
    AT_LEAST_ONCE = "at-least-once"  # no transactions; a crash repeats up to a second of writes


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """The buffer between the replica link and the replay.

    memory_bytes: received and not yet replayed, before it goes to disk. tail_bytes: of what is applied, kept
    in memory for a target that loses its last writes. disk_bytes: most that the files may hold.
    directory: the task's own folder on this machine; None: no disk is used.
    """

    memory_bytes: int = 32 * MIB
    tail_bytes: int = 16 * MIB
    disk_bytes: int = 16 * GIB
    segment_bytes: int = 64 * MIB
    directory: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSettings:
    """The pipelined connection to a target shard."""

    block_bytes: int = 128 * 1024  # commands are sent in blocks of about this size
    inflight_bytes: int = 4 * MIB  # sent and not yet answered, per shard
    connect_timeout_seconds: float = 10.0
    reply_timeout_seconds: float = 60.0  # no reply for so long while some are due: the link is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """The replica link to a source shard."""

    connect_timeout_seconds: float = 10.0
    handshake_timeout_seconds: float = (
        60.0  # a single reply of the handshake; newlines count as life
    )
    # Neither data nor PING for so long: the link is lost. None: the source's own repl-timeout, if it tells it.
    silence_timeout_seconds: float | None = None
    keeps_position: bool = True  # a source without a history is always asked for everything
    ack_interval_seconds: float = 1.0


class ReadFrom(StrEnum):
    """Which node of a source shard the data are read from."""

    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What only matters where a side is a cluster.

    snapshots_per_host: source shards on one host that make and send a snapshot at the same time; 0: all.
    """

    read_from: ReadFrom = ReadFrom.PRIMARY
    snapshots_per_host: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """One migration."""

    task_id: str
    source: Endpoint
    target: Endpoint
    method: Method = Method.INCREMENTAL
    exit_when_synced: bool = False
    source_kind: SourceKind = SourceKind.SERVER
    source_reader: SourceReader = SourceReader.PSYNC
    scan_changes: ScanChanges = ScanChanges.AUTO
    read_server: Endpoint | None = None  # behind `source`, where that is a reader's socket
    bandwidth_limit_bytes_per_second: int | None = None  # None: no limit
    on_conflict: ConflictPolicy = ConflictPolicy.REPLACE
    on_unsupported: UnsupportedPolicy = UnsupportedPolicy.STOP
    field_ttls: FieldTtlPolicy = FieldTtlPolicy.REFUSE
    on_cross_slot: CrossSlotPolicy = CrossSlotPolicy.RESOLVE
    selection: Selection = EVERYTHING
    big_value_bytes: int = 16 * MIB  # larger values of the snapshot are sent in parts
    resume_mode: ResumeMode = ResumeMode.AUTO
    delivery: DeliveryMode = DeliveryMode.EXACTLY_ONCE
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    source_link: SourceSettings = field(default_factory=SourceSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    target_link: TargetSettings = field(default_factory=TargetSettings)
    stop_timeout_seconds: float = (
        10.0  # a graceful stop finishes what is in flight within this time
    )
