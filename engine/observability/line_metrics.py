"""The series of each line, as one table: name, help, where the figure is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.observability.exposition import Sheet, head, shown, write_histogram
from engine.stats import LatencyHistogram
from engine.supervision.reading import LineReading

LAG_BOUNDS_SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    30.0,
    300.0,
)
REPLY_BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

Lines = Sequence[tuple[str, LineReading]]  # with the labels `task` and `line` as text


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure of the moment."""

    name: str
    help: str
    value: Callable[[LineReading], float]

    def write(self, sheet: Sheet, lines: Lines) -> None:
        """Add its samples."""
        value = self.value
        name = head(sheet, self.name, "gauge", self.help)
        sheet += [f"{name}{{{labels}}} {shown(value(line))}\n" for labels, line in lines]


@dataclass(frozen=True, slots=True)
class Counter:
    """A figure that grows; a new run of the task begins at 0."""

    name: str
    help: str
    value: Callable[[LineReading], float]

    def write(self, sheet: Sheet, lines: Lines) -> None:
        """Add its samples."""
        value = self.value
        name = head(sheet, self.name, "counter", self.help)
        sheet += [f"{name}{{{labels}}} {shown(value(line))}\n" for labels, line in lines]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Figures by one more label, whose values are names from this code."""

    name: str
    help: str
    label: str
    values: Callable[[LineReading], Mapping[str, float]]
    kind: str = "counter"

    def write(self, sheet: Sheet, lines: Lines) -> None:
        """Add its samples."""
        name = head(sheet, self.name, self.kind, self.help)
        for labels, line in lines:
            for value, figure in self.values(line).items():
                sheet.append(f'{name}{{{labels},{self.label}="{value}"}} {shown(figure)}\n')


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram of seconds."""

    name: str
    help: str
    bounds_seconds: tuple[float, ...]
    value: Callable[[LineReading], LatencyHistogram]

    def write(self, sheet: Sheet, lines: Lines) -> None:
        """Add its samples."""
        name = head(sheet, self.name, "histogram", self.help)
        for labels, line in lines:
            write_histogram(sheet, name, labels, self.value(line), self.bounds_seconds)


LINE_METRICS: tuple[Gauge | Counter | Labelled | Durations, ...] = (
    Labelled(
        "link_up",
        "Whether the connection of this side (source, target) stands: 1 or 0.",
        "side",
        lambda it: {"source": int(it.is_source_up), "target": int(it.is_target_up)},
        kind="gauge",
    ),
    # positions
    Gauge(
        "source_offset_bytes",
        "The end of the source's replication stream, as it last said.",
        lambda it: it.stats.source_offset,
    ),
    Gauge(
        "read_offset_bytes",
        "The offset up to which the stream was received.",
        lambda it: it.stats.read_offset,
    ),
    Gauge(
        "applied_offset_bytes",
        "The offset up to which the target has confirmed the stream.",
        lambda it: it.stats.applied_offset,
    ),
    Gauge(
        "lag_bytes",
        "Bytes of the source's stream that the target has not confirmed.",
        lambda it: max(0, it.stats.source_offset - it.stats.applied_offset),
    ),
    Gauge(
        "lag_seconds",
        "Age of the oldest bytes received that the target has not confirmed.",
        lambda it: it.lag_seconds,
    ),
    # what was done
    Counter(
        "applied_keys_total",
        "Keys of the snapshot that the target has confirmed; a new snapshot begins at 0.",
        lambda it: it.stats.keys_applied - it.stats.keys_skipped,
    ),
    Counter(
        "skipped_keys_total",
        "Keys of the snapshot that the target had and kept (--on-conflict skip).",
        lambda it: it.stats.keys_skipped,
    ),
    Counter(
        "applied_commands_total",
        "Commands of the stream that the target has confirmed.",
        lambda it: it.stats.commands_applied,
    ),
    Labelled(
        "applied_bytes_total",
        "Bytes of commands that the target has confirmed, by phase.",
        "phase",
        lambda it: {
            "snapshot": it.stats.snapshot_bytes_applied,
            "stream": it.stats.bytes_applied - it.stats.snapshot_bytes_applied,
        },
    ),
    Gauge(
        "snapshot_read_bytes",
        "Bytes of the snapshot that have been taken from the spool.",
        lambda it: it.stats.snapshot_bytes_read,
    ),
    Gauge(
        "snapshot_size_bytes",
        "Size of the snapshot; 0 if the source does not tell.",
        lambda it: it.stats.snapshot_bytes_total,
    ),
    Labelled(
        "not_applied_total",
        "What could not be brought to the target, by what it is; of the snapshot a new one begins at 0.",
        "kind",
        lambda it: it.stats.not_applied,
    ),
    Counter(
        "filtered_keys_total",
        "Keys of the snapshot that the task is not to take along; a new one begins at 0.",
        lambda it: it.stats.keys_filtered,
    ),
    Counter(
        "filtered_commands_total",
        "Commands that the task is not to take along; a new snapshot begins at 0.",
        lambda it: it.stats.commands_filtered,
    ),
    Counter(
        "big_values_total",
        "Values of the snapshot that were sent in parts, because of their size.",
        lambda it: it.stats.big_values,
    ),
    Counter(
        "bridged_total",
        "Keys and commands written in another form than the source's, because the target lacks that one.",
        lambda it: it.stats.bridged,
    ),
    Counter(
        "fetched_again_keys_total",
        "Keys fetched from the source as a whole, because they may have expired on the target too early.",
        lambda it: it.stats.keys_fetched_again,
    ),
    Counter(
        "cross_slot_split_total",
        "Commands and transactions that were split by slot for a target cluster.",
        lambda it: it.stats.cross_slot_split,
    ),
    Counter(
        "cross_slot_resolved_total",
        "Commands over several slots of a target cluster whose effect was fetched from the source.",
        lambda it: it.stats.cross_slot_resolved,
    ),
    Counter(
        "resolved_keys_total",
        "Keys written by such commands whose values have come from the source.",
        lambda it: it.stats.keys_resolved,
    ),
    Gauge(
        "keys_in_doubt",
        "Keys written by such commands whose values have not come yet.",
        lambda it: it.stats.keys_in_doubt,
    ),
    Counter(
        "leftovers_removed_total",
        "Keys removed from the target because the source no longer had them.",
        lambda it: it.stats.leftovers_removed,
    ),
    Counter(
        "flushes_total",
        "FLUSHALL and FLUSHDB of the source that were passed on.",
        lambda it: it.stats.flushes,
    ),
    Gauge(
        "expiries_owed",
        "1 while an expiry on the target is not yet that of the source.",
        lambda it: int(it.is_owing),
    ),
    # the spool
    Gauge("spool_bytes", "Bytes received and not yet replayed.", lambda it: it.spool_bytes),
    Gauge("spool_memory_bytes", "Of these, in memory.", lambda it: it.spool_memory_bytes),
    Gauge("spool_disk_bytes", "Size of the spool's files.", lambda it: it.stats.spool_disk_bytes),
    Counter(
        "spool_spilled_bytes_total",
        "Bytes that were written to the spool's files.",
        lambda it: it.stats.spool_spilled_bytes,
    ),
    Gauge(
        "spool_blocked",
        "1 while nothing is read from the source because the spool takes no more.",
        lambda it: int(it.is_spool_blocked),
    ),
    # troubles
    Labelled(
        "reconnects_total",
        "Connections that were lost and stand again, by side.",
        "side",
        lambda it: {"source": it.stats.source_reconnects, "target": it.stats.target_reconnects},
    ),
    Labelled(
        "resyncs_total",
        "Answers to PSYNC: partial, full, or full_forced where a partial one had been asked for.",
        "kind",
        lambda it: {
            "partial": it.stats.partial_resyncs,
            "full": it.stats.full_resyncs - it.stats.full_resyncs_forced,
            "full_forced": it.stats.full_resyncs_forced,
        },
    ),
    Counter(
        "slot_waits_total",
        "Batches that waited for slots of the target cluster to settle.",
        lambda it: it.stats.slot_waits,
    ),
    Counter(
        "topology_changes_total",
        "Maps of the target cluster that differed from the one before.",
        lambda it: it.stats.topology_changes,
    ),
    Labelled(
        "retries_total",
        "Tries that failed and were followed by another, by the error's code.",
        "cause",
        lambda it: it.stats.retries,
    ),
    Labelled(
        "errors_total",
        "Errors that ended a connection or a run, by code.",
        "code",
        lambda it: it.stats.errors_by_code,
    ),
    # latencies
    Durations(
        "reply_latency_seconds",
        "From the end of a block's sending to its last reply.",
        REPLY_BOUNDS_SECONDS,
        lambda it: it.stats.reply_latency,
    ),
    Durations(
        "apply_lag_seconds",
        "End-to-end lag of each command of the stream: from receipt to the target's confirmation.",
        LAG_BOUNDS_SECONDS,
        lambda it: it.stats.apply_lag,
    ),
)
