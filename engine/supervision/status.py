"""What a task shows of itself: one frozen snapshot, read by CLI, API and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.supervision.totals import LineStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """One look at a running task. Offsets are positions in the source's replication stream, in bytes.

    The fields from `task_id` to `error` are the stable contract of `--progress json`; the rest may grow.
    """

    ts: float  # seconds since the epoch
    task_id: str
    state: str
    phase: str
    full_migration_progress: float  # 0–100
    source_offset: int  # what the source has
    read_offset: int  # what has been received
    spooled_offset: int  # what is safe in the spool
    applied_offset: int  # what the target has confirmed
    lag_bytes: int
    lag_seconds: float
    keys_applied: int
    commands_applied: int
    bytes_applied: int  # bytes of commands the target has confirmed
    bytes_per_second: float  # of bytes_applied, over the last seconds
    spool_bytes: int
    reconnects: int
    full_resyncs: int
    partial_resyncs: int
    errors: int
    error: str | None
    # beyond the contract
    snapshot_bytes_read: int = 0
    snapshot_bytes_total: int = 0  # 0: unknown (diskless source)
    snapshot_keys_expected: int = 0  # the source's own hint, 0: unknown
    keys_skipped: int = 0
    keys_per_second: float = 0.0
    apply_lag_p50_seconds: float = 0.0  # from receipt to the target's confirmation
    apply_lag_p99_seconds: float = 0.0
    throttled_seconds: float = 0.0
    resumed: bool = False  # this run continued from a checkpoint by partial resync
    source_reconnects: int = 0
    target_reconnects: int = 0
    retries: dict[str, int] = field(default_factory=dict)  # tries that failed, by kind of error
    spool_disk_bytes: int = 0  # in files now
    spool_spilled_bytes: int = 0  # written to files by this run
    spool_recovered_bytes: int = 0  # found in files of an earlier run
    checkpoint_skipped_bytes: int = 0  # held in the spool and already on the target
    refused: int = 0  # keys and commands that the target cannot have in any form, left out
    big_values: int = 0  # keys of the snapshot that were sent in parts, because of their size
    bridged: int = 0  # keys and commands written in another form than the source's
    keys_filtered: int = 0  # of the snapshot, which the task is not to take along
    commands_filtered: int = 0  # of the stream, likewise
    leftovers_removed: int = 0  # keys removed from the target because the source no longer had them
    keys_fetched_again: int = 0  # as a whole, because they may have expired on the target too early
    expiries_owed: bool = (
        False  # some on the target are not yet those of the source (replay/margin.py)
    )
    cross_slot_split: int = 0  # commands and transactions that were split by slot of the target
    cross_slot_resolved: int = 0  # commands over several slots whose effect was left to the source
    cross_slot: dict[str, int] = field(default_factory=dict)  # both, by name of the command
    cross_slot_latest: tuple[
        dict[str, Any], ...
    ] = ()  # the last ten (stats.CrossSlotEvent); more in the task's folder
    keys_in_doubt: int = 0  # keys that they wrote, whose values have not come from the source yet
    keys_resolved: int = 0  # whose values have
    slot_waits: int = 0  # slots of the target that were waited for while they moved
    topology_changes: int = 0  # of the target cluster, noticed
    slot_commands_skipped: int = 0  # read again after a loss, and already on the target
    lines: tuple[LineStatus, ...] = ()
    source_reader: str = "psync"  # or scan, or file
    scan_changes: str = ""  # how the scan reader learns of them: notifications or passes
    scan_passes: int = 0  # over all keys, that were finished
    scan_gaps: int = 0  # times when changes may have been missed, so that all keys were read again
    scan_keys_read: int = 0  # for snapshots
    scan_keys_changed: int = 0  # sent behind them
    scan_keys_deleted: int = 0  # of these
    scan_pending_keys: int = 0  # have changed and are still to be read
