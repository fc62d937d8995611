"""The command stream: how much of it passes, and how late it arrives. Native replication and redis-ferry.

Each round starts a source with a small data set and an empty target, lets the one under test sync, then

- pipelined: a writer sends mixed small writes as fast as the source takes them; the clock stops when the
  last key is on the target. redis-ferry writes its checkpoints; with `--delivery at-least-once` it does not.
- paced: a writer sends 5,000 writes a second in ticks of 1 ms, each followed by a PUBLISH with the moment of
  sending; a subscriber on the target takes the difference on arrival.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks.data_sets import DATA_SETS
from benchmarks.figures import median, percentile, ratio, shown
from benchmarks.options import PROJECT_ROOT, Options, Scale
from benchmarks.pairs import (
    BenchmarkError,
    cpu_seconds,
    key_count,
    replicate,
    source_server,
    target_server,
    wait_until,
)
from benchmarks.process import MeasuredProcess, ferry_command, wait_for_state
from benchmarks.report import Check, Table, say, show, show_checks, write_json
from benchmarks.writes import COUNTER, MARKER
from engine.demo.servers import RunningServer

NATIVE, FERRY, AT_LEAST_ONCE = "native", "redis-ferry", "at-least-once"
PIPELINED_WRITES = 2_000_000
PACED_RATE = 5_000  # writes a second
PACED_SECONDS = {Scale.SMALL: 5.0, Scale.FULL: 20.0}
START_TIMEOUT_SECONDS = 60.0
MS = 1000.0

Figures = dict[str, Any]


def run(options: Options) -> bool:
    """Run, show, write the JSON; return whether every criterion holds."""
    runs: list[Figures] = []
    roots: dict[str, Path | None] = {
        NATIVE: None,
        FERRY: PROJECT_ROOT,
        AT_LEAST_ONCE: PROJECT_ROOT,
        **options.trees,
    }
    if options.source != options.target:
        del roots[NATIVE]
    for number in range(options.rounds):
        turn = number % len(roots)
        for way, root in [*roots.items()][turn:] + [*roots.items()][:turn]:
            for part in (_pipelined, _paced):
                with _synced(options, root, way) as (source, target, process):
                    before = cpu_seconds(source), cpu_seconds(target)
                    figures = part(options, source, target)
                    after = cpu_seconds(source), cpu_seconds(target)
                    if process is not None:
                        usage = process.stop()
                        figures |= {**usage.as_figures(), "cpu_seconds": usage.cpu_seconds}
                    _compare(source, target)
                figures["source_cpu_seconds"] = after[0] - before[0]
                figures["target_cpu_seconds"] = after[1] - before[1]
                runs.append({"way": way, "round": number, **figures})
                say(f"  {way:12} {figures['part']:10} {figures['headline']}")
    summary = _summary(runs)
    for table in _tables(options, summary):
        show(table)
    checks = _checks(summary)
    show_checks(checks)
    path = write_json("stream", options, summary, runs)
    say(f"written: {path.name}")
    return all(check.holds for check in checks)


@contextmanager
def _synced(
    options: Options, root: Path | None, way: str
) -> Iterator[tuple[RunningServer, RunningServer, MeasuredProcess | None]]:
    """A source and a target in the stream phase; `root`: tree of the redis-ferry between, None: native."""
    with source_server(options) as source, target_server(options) as target:
        DATA_SETS[0].fill(source, Scale.SMALL)
        if root is None:
            replicate(source, target)
            yield source, target, None
            return
        delivery = ("--delivery", AT_LEAST_ONCE) if way == AT_LEAST_ONCE else ()
        command = ferry_command(source.url, target.url, *delivery)
        with MeasuredProcess(command, root=root) as process:
            wait_for_state(process, "stream", START_TIMEOUT_SECONDS)
            yield source, target, process


def _compare(source: RunningServer, target: RunningServer) -> None:
    """Counts of keys (the checkpoint apart) and the sum of all that was counted up."""
    theirs = key_count(target.client()) - len(target.client().keys("redis-ferry:*"))
    ours = key_count(source.client())
    counted = [server.client().get(COUNTER) for server in (source, target)]
    if theirs != ours or counted[0] != counted[1]:
        raise BenchmarkError(f"{theirs} of {ours} keys on the target, counters {counted}")


@contextmanager
def _child(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m module`, started and ready."""
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise BenchmarkError(f"{module} did not start")
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def _go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()


def _result(child: subprocess.Popen[str]) -> Figures:
    assert child.stdout is not None
    return cast(Figures, json.loads(child.stdout.readline()))


@contextmanager
def written_by(*arguments: str) -> Iterator[Callable[[], Figures]]:
    """The writer at work; call what is given for what it did."""
    with _child("benchmarks.writes", *arguments) as writer:
        _go(writer)
        yield lambda: _result(writer)


def _pipelined(options: Options, source: RunningServer, target: RunningServer) -> Figures:
    count = options.scale.of(PIPELINED_WRITES)
    marker = secrets.token_hex(8)
    client = target.client()
    arguments = (str(source.port), "--count", str(count), "--marker", marker)
    with written_by(*arguments) as writer:
        arrived = wait_until(lambda: client.get(MARKER) == marker.encode(), "the last write")
        wrote = writer()
    seconds = arrived - wrote["started"]
    return {
        "part": "pipelined",
        "writes": count,
        "bytes": wrote["bytes"],
        "seconds": seconds,
        "writer_seconds": wrote["ended"] - wrote["started"],
        "writes_per_second": count / seconds,
        "headline": f"{count / seconds:11,.0f} writes/s",
    }


def _paced(options: Options, source: RunningServer, target: RunningServer) -> Figures:
    seconds = options.seconds or PACED_SECONDS[options.scale]
    arguments = ("--rate", str(PACED_RATE), "--seconds", str(seconds))
    with (
        _child("benchmarks.subscriber", str(target.port)) as reader,
        _child("benchmarks.writes", str(source.port), *arguments) as writer,
    ):
        time.sleep(0.5)  # the servers come to rest
        _go(writer)
        wrote = _result(writer)
        latencies = sorted(_result(reader)["latencies_us"])
    if not latencies:
        raise BenchmarkError("no message came through")
    figures = {
        "part": "paced",
        "writes": wrote["writes"],
        "seconds": wrote["ended"] - wrote["started"],
        "late_ticks": wrote["late_ticks"],
        "messages": len(latencies),
        "p50_ms": percentile(latencies, 0.5) / MS,
        "p90_ms": percentile(latencies, 0.9) / MS,
        "p99_ms": percentile(latencies, 0.99) / MS,
        "p999_ms": percentile(latencies, 0.999) / MS,
        "max_ms": latencies[-1] / MS,
    }
    figures["headline"] = f"p50 {figures['p50_ms']:.3f} ms, p99 {figures['p99_ms']:.3f} ms"
    return figures


# ---- summary


def _summary(runs: list[Figures]) -> Figures:
    summary: Figures = {"pipelined": {}, "paced": {}}
    for run in runs:
        summary[run["part"]].setdefault(run["way"], []).append(run)
    for part in summary.values():
        for way, group in part.items():
            names = [name for name, value in group[0].items() if isinstance(value, int | float)]
            part[way] = {name: median([run[name] for run in group]) for name in names}
    pipelined, paced = summary["pipelined"], summary["paced"]
    for figures in pipelined.values():
        native = pipelined.get(NATIVE, {}).get("writes_per_second")
        figures["throughput_to_native"] = ratio(figures["writes_per_second"], native)
    for figures in paced.values():
        for name in ("p50_ms", "p99_ms", "max_ms"):
            if NATIVE in paced:
                figures[f"added_{name}"] = figures[name] - paced[NATIVE][name]
    return summary


def _checks(summary: Figures) -> list[Check]:
    if NATIVE not in summary["paced"]:
        return []
    pipelined = summary["pipelined"]
    throughput = pipelined[FERRY]["throughput_to_native"]
    exactly_once = ratio(
        pipelined[FERRY]["writes_per_second"], pipelined[AT_LEAST_ONCE]["writes_per_second"]
    )
    paced = summary["paced"][FERRY]
    return [
        Check("stream throughput, × native", throughput, 0.7, at_least=True),
        Check("exactly once, × at least once", exactly_once or 0.0, 0.9, at_least=True),
        Check("added latency p50, ms", paced["added_p50_ms"], 2.0),
        Check("added latency p99, ms", paced["added_p99_ms"], 10.0),
    ]


def _tables(options: Options, summary: Figures) -> Iterator[Table]:
    where = f"{options.source} → {options.target}, {options.scale}, medians of {options.rounds}"
    pipelined = Table(
        f"stream, pipelined writes, {where}",
        ("way", "writes/s", "× native", "writer alone, s", "s", "engine CPU, s", "peak RSS, MiB",
         "source CPU, s", "target CPU, s"),
    )  # fmt: skip
    for way, figures in summary["pipelined"].items():
        rss = figures.get("peak_rss_bytes")
        pipelined.add(
            way,
            shown(figures["writes_per_second"], 0),
            shown(figures["throughput_to_native"]),
            shown(figures["writer_seconds"]),
            shown(figures["seconds"]),
            shown(figures.get("cpu_seconds")),
            shown(None if rss is None else rss / 1024 / 1024, 0),
            shown(figures["source_cpu_seconds"]),
            shown(figures["target_cpu_seconds"]),
        )
    yield pipelined
    paced = Table(
        f"stream, {PACED_RATE:,} writes/s, from sending to arrival, {where}",
        ("way", "p50, ms", "p90, ms", "p99, ms", "p99.9, ms", "max, ms", "added p50", "added p99",
         "late ticks", "engine CPU, s"),
    )  # fmt: skip
    for way, figures in summary["paced"].items():
        names = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "added_p50_ms", "added_p99_ms")
        cells = [shown(figures.get(name), 3) for name in names]
        paced.add(way, *cells, shown(figures["late_ticks"], 0), shown(figures.get("cpu_seconds")))
    yield paced
