"""Plain counters that the stages own. Metrics and progress read them at the edge."""

from __future__ import annotations

import heapq
import math
import operator
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any


class LatencyHistogram:
    """Counts durations in buckets that grow by a tenth, from 10 µs to some 15 minutes."""

    _SMALLEST_SECONDS = 1e-5
    _GROWTH = math.log(1.1)
    _BUCKETS = 192

    def __init__(self) -> None:
        self._counts = [0] * self._BUCKETS
        self.total = 0
        self.sum_seconds = 0.0

    def add(self, seconds: float, weight: int = 1) -> None:
        """Count `weight` events that took `seconds`."""
        ratio = max(seconds, self._SMALLEST_SECONDS) / self._SMALLEST_SECONDS
        bucket = min(int(math.log(ratio) / self._GROWTH), self._BUCKETS - 1)
        self._counts[bucket] += weight
        self.total += weight
        self.sum_seconds += max(seconds, 0.0) * weight

    def cumulative(self, bounds_seconds: Sequence[float]) -> list[int]:
        """How many events took at most each of the rising `bounds_seconds`, which are rounded to a bucket's edge."""
        up_to = [0, *accumulate(self._counts)]
        return [up_to[self._edge(bound)] for bound in bounds_seconds]

    @classmethod
    def _edge(cls, bound_seconds: float) -> int:
        buckets = round(math.log(bound_seconds / cls._SMALLEST_SECONDS) / cls._GROWTH)
        return min(max(buckets, 0), cls._BUCKETS)

    def quantile(self, share: float) -> float:
        """Seconds under which `share` (0–1) of the events lie; 0.0 if there were none."""
        wanted = share * self.total
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return self._SMALLEST_SECONDS * math.exp((bucket + 1) * self._GROWTH)
        return 0.0

    @classmethod
    def joined(cls, several: Iterable[LatencyHistogram]) -> LatencyHistogram:
        """All events of several histograms."""
        made = cls()
        for it in several:
            made._counts = list(map(operator.add, made._counts, it._counts))  # noqa: SLF001
            made.total += it.total
        return made


class Rate:
    """Growth per second of a counter over the last few seconds."""

    _WINDOW_SECONDS = 5.0

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, value: int) -> None:
        """Note the counter's value now; call about once a second."""
        now = time.monotonic()
        self._samples.append((now, value))
        while now - self._samples[0][0] > self._WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()

    def per_second(self) -> float:
        """The rate; 0.0 before the second sample."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


@dataclass(slots=True)
class ReaderStats:
    """What stands for a source that serves no replicas has done. name: psync, scan or file.

    changes: how it learns of them: notifications or passes. gaps: times when it may have missed some, so that all keys
    were read again. pending_since_seconds: monotonic time since when the oldest change has waited; None: none does.
    """

    name: str = "psync"
    changes: str = ""
    passes: int = 0  # over all keys, that were finished
    gaps: int = 0
    keys_read: int = 0
    keys_changed: int = 0  # sent behind the first pass
    keys_deleted: int = 0  # of these
    notifications: int = 0
    pending_keys: int = 0
    pending_since_seconds: float | None = None

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest change that is not sent yet; where there are only passes, of the last one's beginning."""
        since = self.pending_since_seconds
        return 0.0 if since is None else max(0.0, time.monotonic() - since)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossSlotEvent:
    """A command of the source over several slots of the target, or in another way not for a cluster.

    ts: seconds since the epoch. keys: some of its key_count keys, cut, what is no UTF-8 escaped; of MULTI none. offset: end of
    the block in which it stood, in bytes of the stream. handled: split, resolved (what it made came from the source) or
    stopped. count: of MULTI, and where a block has very many: those that are told together.
    """

    ts: float
    command: str
    keys: tuple[str, ...]
    key_count: int
    offset: int
    handled: str
    count: int = 1

    @property
    def is_transaction(self) -> bool:
        """Whether it is MULTI/EXEC."""
        return self.command == "MULTI"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ts": self.ts,
            "command": self.command,
            "keys": list(self.keys),
            "key_count": self.key_count,
            "offset": self.offset,
            "handled": self.handled,
            "count": self.count,
        }


CROSS_SLOT_SHOWN = 10


def latest_of(several: Iterable[Iterable[CrossSlotEvent]]) -> deque[CrossSlotEvent]:
    """The latest of several lists together, in their order in time."""
    merged = heapq.merge(*several, key=lambda it: it.ts)
    return deque(merged, maxlen=CROSS_SLOT_SHOWN)


@dataclass(slots=True)
class LineStats:
    """One line's counters. Offsets in stream bytes; `*_applied` is what the target has confirmed."""

    epoch: int = 0  # of the line's last run that wrote to the target
    source_offset: int = 0
    read_offset: int = 0
    applied_offset: int = 0
    keys_applied: int = 0
    keys_skipped: int = 0
    keys_filtered: int = 0  # of the snapshot, left out because the task is not to take them
    commands_filtered: int = 0  # of the stream, likewise
    keys_expected: int = 0
    commands_applied: int = 0
    bytes_applied: int = 0
    snapshot_bytes_applied: int = 0  # of bytes_applied
    snapshot_bytes_read: int = 0
    snapshot_bytes_total: int = 0
    snapshot_is_applied: bool = False
    full_resyncs: int = 0
    full_resyncs_forced: int = 0  # of full_resyncs: a partial one had been asked for
    partial_resyncs: int = 0
    reconnects: int = 0
    errors: int = 0
    flushes: int = 0
    source_reconnects: int = 0
    target_reconnects: int = 0
    errors_by_code: Counter[str] = field(default_factory=Counter)  # by the name of the error
    retries: Counter[str] = field(default_factory=Counter)  # the same
    spool_disk_bytes: int = 0
    spool_spilled_bytes: int = 0
    spool_recovered_bytes: int = 0
    checkpoint_skipped_bytes: int = 0
    leftovers_removed: int = 0
    keys_fetched_again: int = 0
    refused: int = 0  # keys and commands that the target cannot have, left out
    big_values: int = 0  # keys of the snapshot that were sent in parts
    bridged: int = 0  # keys and commands written in another form than the source's
    cross_slot_split: int = 0  # commands and transactions that were split by slot
    cross_slot: Counter[str] = field(default_factory=Counter)  # by name of the command
    cross_slot_resolved: int = 0  # commands whose effect was left to the source
    cross_slot_latest: deque[CrossSlotEvent] = field(
        default_factory=lambda: deque(maxlen=CROSS_SLOT_SHOWN)
    )
    cross_slot_offset: int = -1  # of the present history, up to where all of these are counted
    keys_in_doubt: int = 0  # of these commands, whose values have not come yet
    keys_resolved: int = 0  # whose values have come from the source
    slot_waits: int = 0  # slots of the target that were waited for while they moved
    topology_changes: int = 0  # maps of the target that differed from the one before
    slot_commands_skipped: int = 0  # read again, and already on the target
    refused_by_kind: Counter[str] = field(default_factory=Counter)  # refused, by type or command
    not_carried: dict[str, int] = field(default_factory=dict)  # of the snapshot, by kind
    left_out_of_commands: Counter[str] = field(default_factory=Counter)  # in the stream, by kind
    apply_lag: LatencyHistogram = field(default_factory=LatencyHistogram)  # receipt to confirmation
    reply_latency: LatencyHistogram = field(default_factory=LatencyHistogram)  # of a block
    bytes_rate: Rate = field(default_factory=Rate)
    keys_rate: Rate = field(default_factory=Rate)

    def count_error(self, error: Exception) -> None:
        """Count an error that ended a link or a stay at the target."""
        self.errors += 1
        self.errors_by_code[type(error).__name__] += 1

    @property
    def not_applied(self) -> Counter[str]:
        """All that could not be brought to the target, by what it is."""
        return self.refused_by_kind + Counter(self.not_carried) + self.left_out_of_commands

    def begin_snapshot(self, offset: int) -> None:
        """A snapshot is to be applied whose stream begins behind `offset`, maybe of another history."""
        self.applied_offset = self.source_offset = offset
        self.cross_slot_offset = -1
        self.keys_applied = self.keys_skipped = 0
        self.keys_filtered = self.commands_filtered = 0
        self.snapshot_bytes_read = 0
        self.snapshot_is_applied = False
