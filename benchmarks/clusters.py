"""The command stream into a cluster: what a command costs the engine, against a standalone target.

Each way starts a source and an empty target (a server, or a cluster of so many shards), lets redis-ferry sync, then a writer
sends mixed small writes to keys of all slots as fast as the source takes them; the clock stops when the target has
the last one. CPU is redis-ferry's own from the first write to the last, without its start.

`spread` is the worst case for transactions: the writes go to every slot in turn, so that none finds another one of its slot
to share a transaction with. Whether that is so is told by the target's count of EXEC.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster

from benchmarks.data_sets import DATA_SETS
from benchmarks.figures import median, ratio, shown
from benchmarks.options import PROJECT_ROOT, Options, Scale
from benchmarks.pairs import BenchmarkError, key_count, source_server, target_server, wait_until
from benchmarks.process import MeasuredProcess, ferry_command, wait_for_state
from benchmarks.report import Check, Table, say, show, show_checks, write_json
from benchmarks.stream import written_by
from benchmarks.writes import COUNTER, MARKER
from engine.demo.servers import RunningServer, find_servers
from tests.servers.cluster import RunningCluster, even_ranges

SHARDS = (1, 3, 6)
SPREAD_SHARDS = (3, 6)
DELIVERIES = ("exactly-once", "at-least-once")
WRITES = 2_000_000
SPREAD_WRITES = 800_000
START_TIMEOUT_SECONDS = 60.0
MOST_CPU = 1.5
LEAST_THROUGHPUT = 0.5

Figures = dict[str, Any]


def run(options: Options) -> bool:
    """Run, show, write the JSON; return whether every criterion holds."""
    runs: list[Figures] = []
    roots: dict[str, Path] = {"": PROJECT_ROOT, **options.trees}
    ways = [
        (tree, shards, it, is_spread)
        for tree in roots
        for is_spread, some in ((False, (0, *SHARDS)), (True, SPREAD_SHARDS))
        for shards in some
        for it in DELIVERIES
    ]
    for number in range(options.rounds):
        turn = number % len(ways)
        for tree, shards, delivery, is_spread in ways[turn:] + ways[:turn]:
            figures = _measured(options, roots[tree], shards, delivery, is_spread=is_spread)
            way = _name(tree, shards, delivery, is_spread=is_spread)
            runs.append({"way": way, "round": number, **figures})
            say(
                f"  {way:32} {figures['writes_per_second']:9,.0f} writes/s"
                f" {figures['cpu_us_per_write']:6.3f} µs CPU a write"
            )
    summary = _summary(runs)
    show(_table(options, summary))
    checks = _checks(summary)
    show_checks(checks)
    path = write_json("clusters", options, summary, runs)
    say(f"written: {path.name}")
    return all(check.holds for check in checks)


def _name(tree: str, shards: int, delivery: str, *, is_spread: bool = False) -> str:
    target = f"{shards} shards" if shards else "server"
    return " ".join(it for it in (tree, target, "spread" if is_spread else "", delivery) if it)


def _measured(
    options: Options, root: Path, shards: int, delivery: str, *, is_spread: bool = False
) -> Figures:
    count = options.scale.of(SPREAD_WRITES if is_spread else WRITES)
    marker = secrets.token_hex(8)
    with source_server(options) as source, _target(options, shards) as (url, target):
        DATA_SETS[0].fill(source, Scale.SMALL)
        command = ferry_command(source.url, url, "--delivery", delivery)
        with MeasuredProcess(command, root=root) as process:
            wait_for_state(process, "stream", START_TIMEOUT_SECONDS)
            before, transactions = process.cpu_so_far(), _transactions(target)
            arguments = (str(source.port), "--count", str(count), "--marker", marker)
            with written_by(*arguments, *(["--spread"] if is_spread else [])) as writer:
                arrived = wait_until(
                    lambda: target.get(MARKER) == marker.encode(), "the last write"
                )
                wrote = writer()
            used = process.cpu_so_far() - before
            transactions = _transactions(target) - transactions
            usage = process.stop()
        _compare(source, target)
    seconds = arrived - wrote["started"]
    return {
        "writes": count,
        "seconds": seconds,
        "writes_per_second": count / seconds,
        "cpu_seconds": used,
        "cpu_us_per_write": used / count * 1e6,
        "writes_per_transaction": count / transactions if transactions else None,
        "peak_rss_bytes": usage.peak_rss_bytes,
    }


@contextmanager
def _target(options: Options, shards: int) -> Iterator[tuple[str, Any]]:
    """The URL and a client of a server (0) or a cluster."""
    if not shards:
        with target_server(options) as server:
            yield server.url, server.client()
        return
    binary = find_servers()[options.target]
    with RunningCluster(binary, layout=even_ranges(shards), replicas=0) as cluster:
        client = RedisCluster(host="127.0.0.1", port=cluster.nodes[0].server.port)
        try:
            yield cluster.url, client
        finally:
            client.close()


def _servers(target: Any) -> list[Any]:
    """A client of each."""
    if isinstance(target, RedisCluster):
        return [target.get_redis_connection(it) for it in target.get_primaries()]  # type: ignore[no-untyped-call]
    return [target]


def _transactions(target: Any) -> int:
    """How many the servers have done."""
    return sum(
        int(it.info("commandstats").get("cmdstat_exec", {}).get("calls", 0))
        for it in _servers(target)
    )


def _compare(source: RunningServer, target: Any) -> None:
    theirs = sum(key_count(it) - len(it.keys("redis-ferry:*")) for it in _servers(target))
    ours = key_count(source.client())
    counted = [source.client().get(COUNTER), target.get(COUNTER)]
    if theirs != ours or counted[0] != counted[1]:
        raise BenchmarkError(f"{theirs} of {ours} keys on the target, counters {counted}")


def _summary(runs: list[Figures]) -> Figures:
    groups: dict[str, list[Figures]] = {}
    for run in runs:
        groups.setdefault(run["way"], []).append(run)
    summary: Figures = {}
    for way, group in groups.items():
        names = [name for name, value in group[0].items() if isinstance(value, int | float)]
        summary[way] = {name: median([run[name] for run in group]) for name in names}
        if " spread " in way:
            continue  # other writes than those into a server
        base = groups[_name(_tree_of(way), 0, way.rpartition(" ")[2])]
        summary[way]["cpu_to_server"] = ratio(
            summary[way]["cpu_us_per_write"], median([it["cpu_us_per_write"] for it in base])
        )
    return summary


def _tree_of(way: str) -> str:
    words = way.split(" ")
    return words[0] if words[0] != "server" and not words[0].isdigit() else ""


def _checks(summary: Figures) -> list[Check]:
    checks = []
    for shards in SHARDS:
        exactly = summary[_name("", shards, DELIVERIES[0])]
        checks.append(
            Check(f"CPU a write, {shards} shards, × server", exactly["cpu_to_server"], MOST_CPU)
        )
        checks.append(_throughput_check(summary, shards, is_spread=False))
    checks += [_throughput_check(summary, shards, is_spread=True) for shards in SPREAD_SHARDS]
    return checks


def _throughput_check(summary: Figures, shards: int, *, is_spread: bool) -> Check:
    exactly, at_least = (summary[_name("", shards, it, is_spread=is_spread)] for it in DELIVERIES)
    return Check(
        f"exactly once, {shards} shards{', spread' if is_spread else ''}, × at least once",
        exactly["writes_per_second"] / at_least["writes_per_second"],
        LEAST_THROUGHPUT,
        at_least=True,
    )


def _table(options: Options, summary: Figures) -> Table:
    table = Table(
        f"stream into clusters, {options.source} → {options.target}, {options.scale}, medians of {options.rounds}",
        (
            "target, delivery",
            "writes/s",
            "a transaction",
            "engine CPU, µs/write",
            "× server",
            "peak RSS, MiB",
        ),
    )
    for way, figures in summary.items():
        table.add(
            way,
            shown(figures["writes_per_second"], 0),
            shown(figures.get("writes_per_transaction"), 1),
            shown(figures["cpu_us_per_write"], 3),
            shown(figures.get("cpu_to_server")),
            shown(figures["peak_rss_bytes"] / 1024 / 1024, 0),
        )
    return table
