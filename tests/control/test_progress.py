"""What reporters write, and that the thread behind them never holds the run."""

from __future__ import annotations

import io
import json
import math
import threading
import time
from dataclasses import fields

import pytest
from rich.console import Console

from engine.control.progress import CONTRACT_NAMES, JsonLines, PlainLines, status_object
from engine.control.progress_bars import Bars, LinesAbove
from engine.control.progress_thread import ProgressThread
from engine.control.wording import Pace, progress_line, summary
from engine.quantities import byte_count, duration
from engine.supervision.status import TaskStatus
from tests.control.scripted_task import make_status

# Word for word from the contract; scripts rely on it.
CONTRACT = (
    "ts, task_id, state, phase, full_migration_progress, source_offset, read_offset, "
    "spooled_offset, applied_offset, lag_bytes, lag_seconds, keys_applied, commands_applied, "
    "bytes_applied, bytes_per_second, spool_bytes, reconnects, full_resyncs, partial_resyncs, "
    "errors, error"
)


def test_contract_names_come_first_and_in_order() -> None:
    names = list(status_object(make_status()))

    assert CONTRACT.split(", ") == names[: len(CONTRACT_NAMES)]


def test_object_holds_every_field_of_the_status() -> None:
    assert {field.name for field in fields(TaskStatus)} == set(status_object(make_status()))


def test_json_is_one_object_a_line() -> None:
    out: list[str] = []
    reporter = JsonLines(out.append)

    reporter.show(make_status())
    reporter.close(make_status(state="failed", phase="failed", error="two\nlines"))

    first, last = map(json.loads, "".join(out).splitlines())
    assert (first["state"], first["error"]) == ("snapshot", None)
    assert (last["state"], last["error"]) == ("failed", "two\nlines")


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_json_has_no_number_that_json_lacks(value: float) -> None:
    out: list[str] = []

    JsonLines(out.append).show(make_status(lag_seconds=value))

    assert json.loads(out[0])["lag_seconds"] is None
    assert "Infinity" not in out[0]
    assert "NaN" not in out[0]


def test_plain_writes_now_and_then_and_at_each_new_state() -> None:
    out: list[str] = []
    now = 0.0
    reporter = PlainLines(out.append, clock=lambda: now)

    for second in range(11):
        now = float(second)
        reporter.show(make_status(ts=1000.0 + second))
    reporter.show(make_status(state="stream", phase="stream"))
    reporter.close(make_status(state="done", phase="done"))

    assert len(out) == 5
    assert "snapshot  42.0 %" in out[0]
    assert "stream  lag 30 B, 0.50 s" in out[3]
    assert out[4].endswith(" done\n")


def test_remaining_time_and_pace_come_from_two_looks() -> None:
    pace = Pace()

    pace.take(make_status(ts=10.0, full_migration_progress=20.0, commands_applied=100))
    pace.take(make_status(ts=20.0, full_migration_progress=40.0, commands_applied=600))

    assert pace.eta_seconds == 30.0
    assert pace.commands_per_second == 50.0
    assert "30 s left" in progress_line(make_status(), pace)


def test_remaining_time_is_unknown_at_first_and_after_a_new_snapshot() -> None:
    pace = Pace()
    pace.take(make_status(ts=1.0, full_migration_progress=90.0))

    pace.take(make_status(ts=2.0, full_migration_progress=1.0))

    assert pace.eta_seconds is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1.0 KiB"), (2.5 * 1024**3, "2.5 GiB"), (-5, "-5 B")],
)
def test_byte_count(count: float, text: str) -> None:
    assert text == byte_count(count)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42.2, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7650, "2 h 07 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert text == duration(seconds)


def test_summary_says_what_was_done_and_how_to_go_on() -> None:
    status = make_status(
        state="stopped", resumed=True, keys_skipped=3, full_migration_progress=100.0
    )

    text = summary(status, source="a:1", target="b:2", seconds=2.0)

    assert text.startswith("stopped: a:1 -> b:2 in 2.0 s")
    assert "1,234 (617/s), 3 skipped" in text
    assert "continued from the checkpoint" in text
    assert "the same command goes on" in text


def test_summary_of_a_cut_snapshot_promises_no_checkpoint() -> None:
    text = summary(make_status(state="stopped"), source="a:1", target="b:2", seconds=2.0)

    assert "starts it again" in text


def test_bars_show_rate_remaining_time_and_lag() -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=120, color_system=None))

    bars.show(make_status(ts=1.0, full_migration_progress=0.0))
    bars.show(make_status(ts=2.0, full_migration_progress=50.0, snapshot_bytes_total=100))
    snapshot = out.getvalue()
    bars.show(make_status(state="stream", phase="stream", full_migration_progress=100.0))
    bars.close(make_status(state="done", phase="done", full_migration_progress=100.0))

    assert "50%" in snapshot
    assert "2.5 MiB/s, 1.0 s left" in snapshot
    assert "lag 30 B, 0.50 s; " in out.getvalue()


@pytest.mark.parametrize("state", ["stream", "stopping", "stopped"])
def test_the_last_picture_shows_no_rate_of_a_time_that_is_over(state: str) -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=120, color_system=None))
    bars.show(make_status(ts=1.0, state="stream", phase="stream", commands_applied=0))
    bars.show(make_status(ts=2.0, state="stream", phase="stream", commands_applied=900))
    before = len(out.getvalue())

    bars.close(make_status(ts=3.0, state=state, phase="stream", commands_applied=900))

    assert "900 commands/s" in out.getvalue()
    last = out.getvalue()[before:]
    assert f"{state}   lag 30 B, 0.50 s" in last
    assert "/s" not in last


@pytest.mark.parametrize("phase", ["snapshot", "stream"])
def test_a_line_of_a_stopped_run_shows_no_rate(phase: str) -> None:
    pace = Pace()
    pace.take(make_status(ts=1.0, phase=phase, full_migration_progress=20.0))
    pace.take(make_status(ts=2.0, phase=phase, full_migration_progress=40.0))

    line = progress_line(make_status(state="stopped", phase=phase), pace)

    assert line.startswith("stopped")
    assert "/s" not in line
    assert "left" not in line


def test_lines_above_the_bars_are_not_broken_by_us() -> None:
    out = io.StringIO()
    above = LinesAbove(Console(file=out, force_terminal=True, width=40, color_system=None))

    above.write("begun, ")
    assert out.getvalue() == ""
    above.write(f"[b]{'x' * 100} :smile:\nnext")
    above.flush()

    assert f"begun, [b]{'x' * 100} :smile:\n" in out.getvalue()
    assert out.getvalue().endswith("next\n")


class SlowReporter:
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.shown: list[tuple[str, int]] = []

    def show(self, status: TaskStatus) -> None:
        self.gate.wait(10)
        self.shown.append((status.state, status.lag_bytes))

    def close(self, status: TaskStatus) -> None:
        self.show(status)


def test_slow_reader_gets_every_change_and_the_newest_figures() -> None:
    reporter = SlowReporter()
    thread = ProgressThread(reporter)

    for number in range(1000):
        thread.offer(make_status(lag_bytes=number))
    thread.offer(make_status(state="stream"), is_change=True)
    thread.offer(make_status(state="recovering"), is_change=True)
    thread.offer(make_status(state="recovering", lag_bytes=1))
    thread.offer(make_status(state="recovering", lag_bytes=2))
    reporter.gate.set()

    assert thread.close(make_status(state="done"), timeout_seconds=5)
    assert (reporter.shown[-4:]) == [
        ("stream", 30),
        ("recovering", 30),
        ("recovering", 2),
        ("done", 30),
    ]
    assert len(reporter.shown) <= 5


def test_close_gives_up_on_a_reader_that_does_not_read() -> None:
    reporter = SlowReporter()
    thread = ProgressThread(reporter)
    thread.offer(make_status())
    started = time.monotonic()

    assert not thread.close(make_status(), timeout_seconds=0.2)
    assert time.monotonic() - started < 5
    reporter.gate.set()


def test_reader_that_went_away_is_not_an_error() -> None:
    def write(_text: str) -> None:
        raise BrokenPipeError

    thread = ProgressThread(JsonLines(write))
    thread.offer(make_status())
    thread.offer(make_status(), is_change=True)

    assert thread.close(make_status(), timeout_seconds=5)
