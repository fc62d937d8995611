"""Metrics for Prometheus, made of the plain counters at each scrape. The names of all series stand here and in line_metrics.py.

Labels are `task` and `line`; beside them only names from this code: state, phase, kind, side, cause, code. Never a key, an
address or a name that an operator chose. A task's series are there exactly as long as the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from engine import __version__, codec
from engine.observability.exposition import Sheet, head, label, shown, write_histogram
from engine.observability.line_metrics import LINE_METRICS
from engine.stats import LatencyHistogram
from engine.supervision.reading import TaskReading

LOOP_DELAY_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_SCAN_FIGURES = (
    ("scan_passes_total", "counter", "Finished readings of all keys of a source that serves no replicas.", "passes"),
    ("scan_gaps_total", "counter", "Times when changes may have been missed, so that all keys were read again.", "gaps"),
    ("scan_keys_read_total", "counter", "Keys read for snapshots.", "keys_read"),
    ("scan_keys_changed_total", "counter", "States of changed keys that were sent.", "keys_changed"),
    ("scan_keys_deleted_total", "counter", "Deletions among them.", "keys_deleted"),
    ("scan_pending_keys", "gauge", "Keys that have changed and are still to be read.", "pending_keys"),
    ("scan_lag_seconds", "gauge", "Age of the oldest change that is still to be read.", "lag_seconds"),
)  # fmt: skip

Readings = Callable[[], Iterable[TaskReading]]


class Metrics:
    """All series of this process.

    readings: called at each scrape, once. loop_delay: see loop_delay.py.
    """

    def __init__(self, readings: Readings, loop_delay: LatencyHistogram) -> None:
        self._readings = readings
        self._loop_delay = loop_delay
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def text(self) -> bytes:
        """Everything, in exposition.CONTENT_TYPE. Each family is there also without a sample."""
        tasks = list(self._readings())
        sheet: Sheet = []
        _write_process(sheet, len(tasks), self._loop_delay)
        _write_tasks(sheet, tasks)
        lines = [
            (f"{label('task', task.task_id)},{label('line', line.line)}", line)
            for task in tasks
            for line in task.lines
        ]
        for metric in LINE_METRICS:
            metric.write(sheet, lines)
        own: bytes = generate_latest(self._process)
        return "".join(sheet).encode() + own


def _write_process(sheet: Sheet, tasks: int, loop_delay: LatencyHistogram) -> None:
    name = head(
        sheet,
        "build_info",
        "gauge",
        "Version, and whether the codec runs compiled or interpreted; always 1.",
    )
    form = "compiled" if codec.COMPILED else "interpreted"
    sheet.append(f"{name}{{{label('version', __version__)},{label('codec', form)}}} 1\n")
    name = head(sheet, "tasks", "gauge", "Tasks that this process knows.")
    sheet.append(f"{name} {tasks}\n")
    name = head(
        sheet,
        "event_loop_delay_seconds",
        "histogram",
        "How much later than asked the event loop woke up a probe.",
    )
    write_histogram(sheet, name, "", loop_delay, LOOP_DELAY_BOUNDS_SECONDS)


def _write_tasks(sheet: Sheet, tasks: list[TaskReading]) -> None:
    named = [(label("task", task.task_id), task) for task in tasks]
    connected = [(labels, task) for labels, task in named if task.lines]
    limited = [
        (labels, task)
        for labels, task in connected
        if task.bandwidth_limit_bytes_per_second is not None
    ]
    name = head(
        sheet,
        "task_state",
        "gauge",
        "1 for the state that the task is in: created, connecting, snapshot, stream, recovering, "
        "stopping, stopped, done, failed.",
    )
    sheet += [f"{name}{{{labels},{label('state', task.state)}}} 1\n" for labels, task in named]
    name = head(
        sheet,
        "task_phase",
        "gauge",
        "1 for the phase that the task is in: handshake, snapshot, stream, done, failed.",
    )
    sheet += [f"{name}{{{labels},{label('phase', task.phase)}}} 1\n" for labels, task in named]
    figures: tuple[tuple[str, str, str, list[tuple[str, TaskReading]], str], ...] = (
        ("snapshot_progress_ratio", "gauge", "How much of the snapshot is applied.", connected, "progress_ratio"),
        ("bandwidth_limit_bytes_per_second", "gauge", "The limit of writes to the target; absent without one.", limited, "bandwidth_limit_bytes_per_second"),
        ("throttled_seconds_total", "counter", "How long the limit has held the task back.", connected, "throttled_seconds"),
        ("spool_memory_limit_bytes", "gauge", "Most that a spool keeps unread in memory.", connected, "spool_memory_limit_bytes"),
        ("spool_disk_limit_bytes", "gauge", "Most that a spool keeps in files.", connected, "spool_disk_limit_bytes"),
    )  # fmt: skip
    scanned = [(labels, task) for labels, task in connected if task.reader.name == "scan"]
    for short, kind, text, field in _SCAN_FIGURES:
        name = head(sheet, short, kind, text)
        sheet += [
            f"{name}{{{labels}}} {shown(getattr(it.reader, field))}\n" for labels, it in scanned
        ]
    for short, kind, text, which, field in figures:
        name = head(sheet, short, kind, text)
        sheet += [f"{name}{{{labels}}} {shown(getattr(task, field))}\n" for labels, task in which]
