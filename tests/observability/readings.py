"""Readings made by hand, with every counter set."""

from __future__ import annotations

from collections import Counter

from engine.observability.metrics import Metrics
from engine.stats import LatencyHistogram, LineStats, ReaderStats
from engine.supervision.reading import LineReading, TaskReading


def line(number: str = "0", **figures: int) -> LineReading:
    stats = LineStats(**figures)
    stats.retries = Counter({"SourceLinkLost": 2})
    stats.errors_by_code = Counter({"SourceLinkLost": 2, "TargetLinkLost": 1})
    stats.not_carried = {"module aux": 3}
    for number_of in range(200):
        stats.apply_lag.add(number_of / 1e4, 10)
        stats.reply_latency.add(number_of / 1e5)
    return LineReading(
        line=number,
        stats=stats,
        lag_seconds=0.25,
        spool_bytes=4096,
        spool_memory_bytes=4096,
        is_spool_blocked=False,
        is_source_up=True,
        is_target_up=True,
        is_owing=False,
    )


def task(task_id: str, *lines: LineReading, state: str = "stream") -> TaskReading:
    return TaskReading(
        task_id=task_id,
        state=state,
        phase="stream",
        progress_ratio=1.0,
        bandwidth_limit_bytes_per_second=1024,
        spool_memory_limit_bytes=32 << 20,
        spool_disk_limit_bytes=16 << 30,
        lines=lines,
        reader=ReaderStats(name="scan"),
    )


def text_of(*tasks: TaskReading) -> str:
    return Metrics(lambda: tasks, LatencyHistogram()).text().decode()
