"""A target ten times slower than its source, then a crash: what waits, what it costs, how soon it goes on.

- pressure: the source is written at 50 MB/s with a redis-ferry limited to 5 MB/s behind it, for a minute. The source must
  keep its replica, with a small output buffer and the servers' default limit for it; memory stays bounded, the disk takes the rest.
- recovery: that redis-ferry is killed (SIGKILL) with its spool full, and started again without the limit. The clock runs from
  the start of the process until the target has something new, and until it has everything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import median, shown
from benchmarks.options import PROJECT_ROOT, Options, Scale
from benchmarks.pairs import BenchmarkError, key_count, source_server, target_server, wait_until
from benchmarks.process import ferry_command, progress_lines
from benchmarks.report import Check, Table, say, show, show_checks, write_json
from engine.demo.servers import RunningServer

MIB = 1024 * 1024
LIMIT_MB = 5
WRITE_BYTES_PER_SECOND = 50 * MIB
SECONDS = {Scale.SMALL: 8.0, Scale.FULL: 60.0}
VALUE_BYTES = 16 * 1024
KEYS = 2000  # the source's memory stays flat
DEFAULT_BUFFER_LIMIT = ("replica", "256mb", "64mb", 60)

Figures = dict[str, Any]


def run(options: Options) -> bool:
    """Run, show, write the JSON; return whether every criterion holds."""
    runs = [_round(options, number) for number in range(options.rounds)]
    summary: Figures = {
        name: median([it[name] for it in runs]) for name in runs[0] if name != "series"
    }
    table = Table(
        f"{WRITE_BYTES_PER_SECOND // MIB} MB/s into a limit of {LIMIT_MB} MB/s, {options.source} → {options.target}, "
        f"{options.scale}, medians of {options.rounds}",
        ("figure", "value"),
    )
    for name, value in summary.items():
        table.add(name.replace("_", " "), shown(value))
    show(table)
    checks = [
        Check("links lost by the source", summary["links_lost"], 0),
        Check("peak RSS, MiB", summary["peak_rss_mib"], 200),
        Check("written to the target, MB/s", summary["limited_mb_per_second"], LIMIT_MB * 1.02),
        Check("restart to the first new byte on the target, s", summary["recovery_seconds"], 3),
        Check("recovered from disk, MB", summary["recovered_mb"], 0.001, at_least=True),
    ]
    show_checks(checks)
    path = write_json("pressure", options, summary, runs)
    say(f"written: {path.name}")
    return all(check.holds for check in checks)


@dataclass(slots=True)
class _Watch:
    """What is seen of the source's link while it is under pressure."""

    lost: int = 0
    peak_buffer_bytes: int = 0
    _known: set[bytes] = field(default_factory=set)

    def look(self, source: RunningServer) -> None:
        """Once."""
        with source.client() as client:
            replicas = client.execute_command("CLIENT", "LIST", "TYPE", "replica")
        lines = bytes(replicas).splitlines()
        ids = {line.split()[0] for line in lines}
        self.lost += len(self._known - ids)
        self._known |= ids
        for line in lines:
            facts = dict(it.split(b"=", 1) for it in line.split() if b"=" in it)
            self.peak_buffer_bytes = max(self.peak_buffer_bytes, int(facts.get(b"omem", 0)))


@contextmanager
def _writing(source: RunningServer) -> Iterator[None]:
    stop = threading.Event()

    def write() -> None:
        noise = os.urandom(VALUE_BYTES * 2)
        began, sent = time.monotonic(), 0
        with source.client() as client:
            while not stop.is_set():
                if sent > (time.monotonic() - began) * WRITE_BYTES_PER_SECOND:
                    stop.wait(0.005)
                    continue
                pipe = client.pipeline(transaction=False)
                for number in range(32):
                    at = (sent + number) % VALUE_BYTES
                    pipe.set(
                        f"key:{(sent // VALUE_BYTES + number) % KEYS}", noise[at : at + VALUE_BYTES]
                    )
                pipe.execute()
                sent += 32 * VALUE_BYTES

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _worker(state: Path, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    output = state / f"out-{time.monotonic_ns()}"
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    with output.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdout=out, stderr=sys.stderr, env=environment
        )
    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _last(output: Path) -> Figures:
    lines = progress_lines(output.read_text())
    return lines[-1] if lines else {}


def _memory_mib(pid: int, name: str) -> float:
    """VmHWM, the peak of the resident memory, or VmRSS, that of this moment."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"no {name}")


def _series(output: Path, memory: list[tuple[float, float]]) -> list[Figures]:
    """Lag, spool and memory over time: for each look at the memory, the progress line before it."""
    lines = progress_lines(output.read_text())
    rows: list[Figures] = []
    for at, rss_mib in memory:
        known = [it for it in lines if it["ts"] <= at] or lines[:1]
        row = known[-1]
        rows.append(
            {
                "seconds": round(at - memory[0][0], 2),
                "lag_seconds": round(row["lag_seconds"], 3),
                "spool_disk_mib": round(row["spool_disk_bytes"] / MIB, 1),
                "rss_mib": round(rss_mib, 1),
            }
        )
    return rows


def _round(options: Options, number: int) -> Figures:
    seconds = SECONDS[options.scale]
    with (
        tempfile.TemporaryDirectory(prefix="redis-ferry-bench-") as folder,
        source_server(options) as source,
        target_server(options) as target,
    ):
        source.client().config_set(
            "client-output-buffer-limit", " ".join(map(str, DEFAULT_BUFFER_LIMIT))
        )
        command = ferry_command(source.url, target.url)
        figures: Figures = {}
        limited = [*command, "--bandwidth-limit-mb", str(LIMIT_MB)]
        with _worker(Path(folder), *limited) as (process, output):
            wait_until(lambda: _last(output).get("phase") == "stream", "the stream phase", 60)
            watch, before = _Watch(), _last(output)
            memory: list[tuple[float, float]] = []
            with _writing(source):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    watch.look(source)
                    memory.append((time.time(), _memory_mib(process.pid, "VmRSS")))
                    time.sleep(0.5)
            after = _last(output)
            passed = after["ts"] - before["ts"]
            figures |= {
                "links_lost": watch.lost + after["reconnects"],
                "peak_output_buffer_mib": watch.peak_buffer_bytes / MIB,
                "peak_rss_mib": _memory_mib(process.pid, "VmHWM"),
                "spool_on_disk_mib": after["spool_disk_bytes"] / MIB,
                "limited_mb_per_second": (after["bytes_applied"] - before["bytes_applied"])
                / MIB
                / passed,
            }
            figures["series"] = _series(output, memory)
            applied = after["applied_offset"]
            process.send_signal(signal.SIGKILL)
            process.wait()
        with _worker(Path(folder), *command) as (process, output):
            began = time.time()
            wait_until(lambda: _last(output).get("commands_applied", 0) > 0, "something new", 60)
            figures["recovery_seconds"] = _first(output, "commands_applied")["ts"] - began
            end = int(source.client().info("replication")["master_repl_offset"])
            wait_until(lambda: _last(output).get("applied_offset", 0) >= end, "all", 300)
            last = _last(output)
            figures |= {
                "drained_seconds": last["ts"] - began,
                "recovered_mb": last["spool_recovered_bytes"] / MIB,
                "full_resyncs_after_crash": last["full_resyncs"],
            }
            if last["applied_offset"] <= applied or last["full_resyncs"]:
                raise BenchmarkError(f"not gone on with: {json.dumps(last)}")
        theirs = key_count(target.client()) - len(target.client().keys("redis-ferry:*"))
        if theirs != key_count(source.client()):
            raise BenchmarkError(f"{theirs} keys on the target")
        digest = [server.client().get("key:1") for server in (source, target)]
        if digest[0] != digest[1]:
            raise BenchmarkError("the values differ")
    say(
        f"  round {number}: {figures['recovery_seconds']:.2f} s to go on, {figures['peak_rss_mib']:.0f} MiB"
    )
    return figures


def _first(output: Path, name: str) -> Figures:
    return next(line for line in progress_lines(output.read_text()) if line[name] > 0)
