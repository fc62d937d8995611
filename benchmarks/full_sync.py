"""Full sync of five data sets: native REPLICAOF, redis-ferry, a raw pipeline from memory, other tools.

Each round runs every way once, on an empty target process of its own; the source stays. What is timed:

- native: from sending REPLICAOF until the link is up and the key counts are equal.
- redis-ferry: from its first connection until it says done (all replies are in); the start of its process
  before that is a column of its own. Key counts are compared afterwards, digests in the first round.
- raw: sending the same commands, made before by our transcoder from the source's RDB, until the last reply.
- a tool: from the start of its process until it ends, or until the key counts are equal.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.data_sets import DataSet, chosen
from benchmarks.figures import geometric_mean, median, ratio, shown
from benchmarks.options import PROJECT_ROOT, Options
from benchmarks.pairs import (
    SYNC_TIMEOUT_SECONDS,
    BenchmarkError,
    cpu_seconds,
    digest,
    key_count,
    replicate,
    source_server,
    target_server,
    wait_until,
)
from benchmarks.process import MeasuredProcess, Usage, ferry_command, ferry_times
from benchmarks.report import Check, Table, say, show, show_checks, write_json
from benchmarks.sender import send_blocks
from benchmarks.snapshots import encoded_snapshot
from engine.demo.servers import RunningServer

NATIVE, FERRY, RAW = "native", "redis-ferry", "raw"
KNOWN = {NATIVE, FERRY, RAW}
EMPTY = "empty"
MIB = 1024 * 1024

Figures = dict[str, Any]


class HasUrl(Protocol):
    """A server or a cluster."""

    @property
    def url(self) -> str:
        """As on the command line."""


Way = Callable[[RunningServer, RunningServer], Figures]


def run(options: Options) -> bool:
    """Run, show, write the JSON; return whether every criterion holds."""
    runs: list[Figures] = list(_empty_runs(options))
    for data_set in chosen(options.data_sets):
        with source_server(options) as source:
            keys = data_set.fill(source, options.scale)
            say(f"{data_set.name}: {keys:,} keys")
            runs += _rounds(options, data_set, source, keys)
    summary = _summary(runs)
    checks = _checks(summary)
    for table in _tables(options, summary):
        show(table)
    show_checks(checks)
    path = write_json("full_sync", options, summary, runs)
    say(f"written: {path.name}")
    return all(check.holds for check in checks)


def _empty_runs(options: Options) -> Iterator[Figures]:
    """redis-ferry without a key to move: what every run costs before its first."""
    with source_server(options) as source:
        for number in range(-1, options.rounds):
            with target_server(options) as target:
                figures = sync_with_ferry(source, target, PROJECT_ROOT)
            if number >= 0:  # the one before has made the bytecode
                yield {"data_set": EMPTY, "way": FERRY, "round": number, "keys": 0, **figures}


def _rounds(
    options: Options, data_set: DataSet, source: RunningServer, keys: int
) -> Iterator[Figures]:
    ways = _ways(options)
    expected = digest(source)
    for number in range(options.rounds):
        # Another order each time, so that nobody always runs behind the same neighbour.
        turn = number % len(ways)
        for name, way in [*ways.items()][turn:] + [*ways.items()][:turn]:
            with target_server(options) as target:
                before = cpu_seconds(source), cpu_seconds(target)
                figures = way(source, target)
                after = cpu_seconds(source), cpu_seconds(target)
                if key_count(target.client()) != keys:
                    raise BenchmarkError(f"{name}: {key_count(target.client())} of {keys} keys")
                if number == 0 and digest(target) != expected:
                    raise BenchmarkError(f"{name}: the target's data differ")
            figures = {
                "data_set": data_set.name,
                "way": name,
                "round": number,
                "keys": keys,
                **figures,
                "source_cpu_seconds": after[0] - before[0],
                "target_cpu_seconds": after[1] - before[1],
            }
            say(f"  {name:12} {figures['seconds']:7.3f} s")
            yield figures


def _ways(options: Options) -> dict[str, Way]:
    ways: dict[str, Way] = {}
    if options.source == options.target:
        ways[NATIVE] = lambda source, target: {"seconds": replicate(source, target)}
    ways[FERRY] = partial(sync_with_ferry, root=PROJECT_ROOT)
    for name, root in options.trees.items():
        ways[name] = partial(sync_with_ferry, root=root)
    blocks: list[tuple[bytes, int]] = []

    def raw(source: RunningServer, target: RunningServer) -> Figures:
        if not blocks:  # held for this data set only
            blocks.extend(encoded_snapshot(source, target))
        return {
            "seconds": send_blocks((target.host, target.port), blocks),
            "bytes": sum(len(commands) for commands, _ in blocks),
        }

    ways[RAW] = raw
    for name, command in options.tools.items():
        ways[name] = partial(_tool, command=command)
    return ways


def sync_with_ferry(source: HasUrl, target: HasUrl, root: Path) -> Figures:
    """One full migration by the redis-ferry of `root`: its times, CPU and memory."""
    command = ferry_command(source.url, target.url, "--method", "full")
    with MeasuredProcess(command, root=root) as process:
        usage = process.wait(SYNC_TIMEOUT_SECONDS)
        times = ferry_times(process.output(), usage.started_at)
    return {
        "seconds": times.done - times.connecting,
        "startup_seconds": times.connecting,
        "handshake_seconds": times.snapshot - times.connecting,
        **usage.as_figures(),
        "cpu_seconds": usage.cpu_seconds,
        "peak_own_bytes": process.peak_own_bytes,
    }


def _tool(source: RunningServer, target: RunningServer, command: str) -> Figures:
    filled = [
        part.format(
            source=source.url,
            target=target.url,
            source_address=f"{source.host}:{source.port}",
            target_address=f"{target.host}:{target.port}",
        )
        for part in shlex.split(command)
    ]
    keys = key_count(source.client())
    client = target.client()
    started = time.monotonic()
    with MeasuredProcess(filled) as process:
        ended = wait_until(
            lambda: not process.is_running or key_count(client) == keys, "the tool's sync"
        )
        usage: Usage = process.stop()
    return {"seconds": ended - started, **usage.as_figures(), "cpu_seconds": usage.cpu_seconds}


# ---- summary


def _summary(runs: list[Figures]) -> Figures:
    """Medians by data set and way, ratios to native."""
    cells: dict[str, dict[str, Figures]] = {}
    present = {run["way"] for run in runs}
    order = [*(way for way in (NATIVE, FERRY, RAW) if way in present), *sorted(present - KNOWN)]
    empty = _medians([run for run in runs if run["data_set"] == EMPTY])
    for name in dict.fromkeys(run["data_set"] for run in runs if run["data_set"] != EMPTY):
        ways: dict[str, Figures] = {}
        for way in order:
            group = [run for run in runs if (run["data_set"], run["way"]) == (name, way)]
            if group:
                ways[way] = _medians(group)
        native = ways.get(NATIVE, {}).get("seconds")
        for figures in ways.values():
            figures["to_native"] = ratio(figures["seconds"], native)
            if "startup_seconds" in figures:
                above = figures["cpu_seconds"] - empty["cpu_seconds"]
                figures["cpu_seconds_per_million_keys"] = above / figures["keys"] * 1e6
        cells[name] = ways
    means = {
        way: geometric_mean(ratios)
        for way in order
        if (ratios := [ways[way]["to_native"] for ways in cells.values() if _has(ways, way)])
    }
    return {"empty": empty, "data_sets": cells, "geometric_mean_to_native": means}


def _has(ways: dict[str, Figures], way: str) -> bool:
    return ways.get(way, {}).get("to_native") is not None


def _medians(group: list[Figures]) -> Figures:
    names = {name for run in group for name, value in run.items() if isinstance(value, int | float)}
    figures: Figures = {
        name: median([run[name] for run in group if name in run]) for name in sorted(names)
    }
    figures["keys_per_second"] = figures["keys"] / figures["seconds"]
    figures["fastest_seconds"] = min(run["seconds"] for run in group)
    if "peak_rss_bytes" in figures:
        figures["peak_rss_bytes"] = max(run["peak_rss_bytes"] for run in group)
    return figures


def _checks(summary: Figures) -> list[Check]:
    cells: dict[str, dict[str, Figures]] = summary["data_sets"]
    checks = []
    mean = summary["geometric_mean_to_native"].get(FERRY)
    if mean is not None:
        worst = max(ways[FERRY]["to_native"] for ways in cells.values())
        checks += [
            Check("wall time, geometric mean, × native", mean, 1.25),
            Check("wall time, the worst data set, × native", worst, 1.6),
        ]
    if "small_strings" in cells:
        cpu = cells["small_strings"][FERRY]["cpu_seconds_per_million_keys"]
        checks.append(Check("engine CPU above an empty run, s per million small keys", cpu, 1.2))
    rss = max(ways[FERRY]["peak_rss_bytes"] for ways in cells.values())
    checks.append(Check("peak RSS, MiB", rss / MIB, 128))
    return checks


def _tables(options: Options, summary: Figures) -> Iterator[Table]:
    cells: dict[str, dict[str, Figures]] = summary["data_sets"]
    means: dict[str, float] = summary["geometric_mean_to_native"]
    title = f"full sync, {options.source} → {options.target}, {options.scale}, medians of {options.rounds}"
    ways = list(dict.fromkeys(way for row in cells.values() for way in row))
    others = [way for way in ways if way != NATIVE]
    times = Table(title, ("data set", *(f"{way}, s" for way in ways), *(f"{w} ×" for w in others)))
    for name, row in cells.items():
        seconds = [shown(row[way]["seconds"], 3) for way in ways]
        times.add(name, *seconds, *(shown(row[way]["to_native"]) for way in others))
    blank = [""] * len(ways)
    times.add("geometric mean", *blank, *(shown(means.get(way)) for way in others))
    yield times
    use = Table(
        "what it costs: processes from start to end; s/M keys: CPU above that of an empty run "
        f"({shown(summary['empty']['cpu_seconds'])} s)",
        ("data set", "way", "keys/s", "CPU, s", "CPU, s/M keys", "peak RSS, MiB", "start-up, s",
         "source CPU, s", "target CPU, s"),
    )  # fmt: skip
    for name, row in cells.items():
        for way, figures in row.items():
            rss = figures.get("peak_rss_bytes")
            use.add(
                name,
                way,
                shown(figures["keys_per_second"], 0),
                shown(figures.get("cpu_seconds")),
                shown(figures.get("cpu_seconds_per_million_keys")),
                shown(None if rss is None else rss / MIB, 0),
                shown(figures.get("startup_seconds")),
                shown(figures["source_cpu_seconds"]),
                shown(figures["target_cpu_seconds"]),
            )
    yield use
