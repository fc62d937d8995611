"""How a full sync grows: with keys, with the size of values, with shards on either side. Time in a line, memory flat.

Keys: strings of 64 bytes, from 10^4 on. Values: the same bytes in all, in values of 16 B to 16 MiB. Native and redis-ferry take
turns at each point, on an empty target each time, as in full_sync.
Shards: the same keys from one server into clusters of 1 to 6 primaries. Lines: out of such clusters into one server. There is no
native way for these; what counts is redis-ferry's CPU and memory against those of one shard.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.cluster_pairs import cluster_of
from benchmarks.data_sets import SEED, in_blocks, resp
from benchmarks.figures import median, ratio, shown
from benchmarks.full_sync import FERRY, MIB, NATIVE, sync_with_ferry
from benchmarks.options import PROJECT_ROOT, Options, Scale
from benchmarks.pairs import BenchmarkError, key_count, replicate, source_server, target_server
from benchmarks.report import Check, Table, say, show, show_checks, write_json
from benchmarks.sender import send_blocks
from engine.codec.slots import key_slot
from engine.demo.servers import RunningServer
from tests.servers.cluster import even_ranges

KEY_COUNTS = {
    Scale.SMALL: (10_000, 30_000, 100_000),
    Scale.FULL: (10_000, 100_000, 1_000_000, 10_000_000),
}
VALUE_BYTES = (16, 256, 4096, 65_536, 1_048_576, 16_777_216)
TOTAL_BYTES = {Scale.SMALL: 64 * MIB, Scale.FULL: 512 * MIB}
MOST_KEYS = {Scale.SMALL: 100_000, Scale.FULL: 1_000_000}
SMALL_VALUE_BYTES = 64
SHARD_COUNTS = (1, 2, 3, 6)
SHARDED_KEYS = {Scale.SMALL: 100_000, Scale.FULL: 1_000_000}
RANDOM_BYTES = 16 * MIB

Figures = dict[str, Any]


def run(options: Options) -> bool:
    """Run, show, write the JSON; return whether every criterion holds."""
    runs: list[Figures] = []
    with source_server(options) as source, target_server(options) as target:
        sync_with_ferry(source, target, PROJECT_ROOT)  # makes the bytecode
    for keys in KEY_COUNTS[options.scale]:
        runs += _point(options, "keys", keys, keys, SMALL_VALUE_BYTES)
    for shards in SHARD_COUNTS:
        runs += _cluster_point(options, "shards", shards)
        runs += _cluster_point(options, "lines", shards)
    for value_bytes in VALUE_BYTES:
        keys = min(TOTAL_BYTES[options.scale] // value_bytes, MOST_KEYS[options.scale])
        runs += _point(options, "value_bytes", value_bytes, keys, value_bytes)
    summary = _summary(runs)
    for curve, points in summary.items():
        show(_table(options, curve, points))
    checks = _checks(summary)
    show_checks(checks)
    say(f"written: {write_json('scaling', options, summary, runs).name}")
    return all(check.holds for check in checks)


def _fill(source: RunningServer, keys: int, value_bytes: int) -> None:
    commands = (resp(b"SET", key, value) for key, value in _strings(keys, value_bytes))
    send_blocks((source.host, source.port), in_blocks(commands))


def _strings(keys: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    pool = random.Random(SEED).randbytes(RANDOM_BYTES + value_bytes)
    for number in range(keys):
        at = number * 61 % RANDOM_BYTES
        yield b"string:%08d" % number, pool[at : at + value_bytes]


def _fill_cluster(nodes: Sequence[RunningServer], keys: int) -> None:
    """Into the primaries of a cluster with even ranges, in their order."""
    starts = [ranges[0][0] for ranges in even_ranges(len(nodes))]
    commands: list[list[bytes]] = [[] for _ in nodes]
    for key, value in _strings(keys, SMALL_VALUE_BYTES):
        commands[bisect_right(starts, key_slot(key)) - 1].append(resp(b"SET", key, value))
    for node, its in zip(nodes, commands, strict=True):
        send_blocks((node.host, node.port), in_blocks(iter(its)))


def _cluster_point(options: Options, curve: str, shards: int) -> Iterator[Figures]:
    keys = SHARDED_KEYS[options.scale]
    name = options.target if curve == "shards" else options.source
    for number in range(options.rounds):
        with cluster_of(options, name, shards) as cluster:
            if curve == "shards":
                with source_server(options) as source:
                    _fill(source, keys, SMALL_VALUE_BYTES)
                    figures = sync_with_ferry(source, cluster, PROJECT_ROOT)
                arrived = sum(key_count(it.client()) for it in cluster.primaries)
            else:
                _fill_cluster(cluster.primaries, keys)
                with target_server(options) as target:
                    figures = sync_with_ferry(cluster, target, PROJECT_ROOT)
                    arrived = key_count(target.client())
            if arrived != keys:
                raise BenchmarkError(f"{curve} {shards}: {arrived} of {keys} keys")
        say(f"  {curve} {shards:>12,} {FERRY:12} {figures['seconds']:7.3f} s")
        yield {"curve": curve, "at": shards, "way": FERRY, "round": number, "keys": keys,
               "bytes": keys * SMALL_VALUE_BYTES, **figures}  # fmt: skip


def _point(options: Options, curve: str, at: int, keys: int, value_bytes: int) -> Iterator[Figures]:
    with source_server(options) as source:
        _fill(source, keys, value_bytes)
        for number in range(options.rounds):
            ways = (NATIVE, FERRY) if number % 2 == 0 else (FERRY, NATIVE)
            for way in ways:
                if way == NATIVE and options.source != options.target:
                    continue
                with target_server(options) as target:
                    figures = (
                        {"seconds": replicate(source, target)}
                        if way == NATIVE
                        else sync_with_ferry(source, target, PROJECT_ROOT)
                    )
                    if key_count(target.client()) != keys:
                        raise BenchmarkError(f"{way}: not {keys} keys")
                say(f"  {curve} {at:>12,} {way:12} {figures['seconds']:7.3f} s")
                yield {"curve": curve, "at": at, "way": way, "round": number, "keys": keys,
                       "bytes": keys * value_bytes, **figures}  # fmt: skip


def _summary(runs: list[Figures]) -> dict[str, list[Figures]]:
    """By curve, its points in order: medians of each way."""
    curves: dict[str, list[Figures]] = {}
    for curve, at in dict.fromkeys((it["curve"], it["at"]) for it in runs):
        group = [it for it in runs if (it["curve"], it["at"]) == (curve, at)]
        ferry = [it for it in group if it["way"] == FERRY]
        native = [it["seconds"] for it in group if it["way"] == NATIVE]
        seconds = median([it["seconds"] for it in ferry])
        curves.setdefault(curve, []).append(
            {
                "at": at,
                "keys": group[0]["keys"],
                "bytes": group[0]["bytes"],
                "seconds": seconds,
                "native_seconds": median(native) if native else None,
                "to_native": ratio(seconds, median(native) if native else None),
                "cpu_seconds": median([it["cpu_seconds"] for it in ferry]),
                "peak_rss_bytes": max(it["peak_rss_bytes"] for it in ferry),
                "peak_own_bytes": max(it["peak_own_bytes"] for it in ferry),
            }
        )
    return curves


def _checks(summary: dict[str, list[Figures]]) -> list[Check]:
    """Linear: a key of the largest number costs what one of the number before does."""
    start = summary["keys"][0]["cpu_seconds"]  # almost all of it is the start-up
    before, last = ((it["cpu_seconds"] - start) / it["keys"] for it in summary["keys"][-2:])
    one, most = (summary["shards"][it]["cpu_seconds"] for it in (0, -1))
    one_line, most_lines = (summary["lines"][it]["cpu_seconds"] for it in (0, -1))
    fewer_keys, keys = summary["keys"][-2:]
    more_rss = keys["peak_rss_bytes"] - fewer_keys["peak_rss_bytes"]
    checks = [
        Check("CPU a key, of the largest number against the one before", last / before, 1.5),
        Check("CPU into the most shards, against one", most / one, 1.5),
        Check("CPU of the most lines, against one", most_lines / one_line, 1.5),
        Check("own memory at the largest number of keys, MiB", keys["peak_own_bytes"] / MIB, 128),
        Check("peak RSS at the largest number of keys, above that at the one before, MiB",
              more_rss / MIB, 50),
        Check("peak RSS over all value sizes, MiB",
              max(it["peak_rss_bytes"] / MIB for it in summary["value_bytes"]), 256),
    ]  # fmt: skip
    if keys["to_native"] is not None:
        checks.append(Check("the largest number of keys, × native", keys["to_native"], 1.5))
    return checks


def _table(options: Options, curve: str, points: list[Figures]) -> Table:
    table = Table(
        f"full sync by {curve.replace('_', ' ')}, {options.source} → {options.target}, {options.scale}",
        (
            curve,
            "keys",
            "MiB",
            "native, s",
            "redis-ferry, s",
            "×",
            "CPU, s",
            "own memory, MiB",
            "peak RSS, MiB",
        ),
    )
    for it in points:
        table.add(
            f"{it['at']:,}",
            f"{it['keys']:,}",
            shown(it["bytes"] / MIB, 0),
            shown(it["native_seconds"], 3),
            shown(it["seconds"], 3),
            shown(it["to_native"]),
            shown(it["cpu_seconds"]),
            shown(it["peak_own_bytes"] / MIB, 0),
            shown(it["peak_rss_bytes"] / MIB, 0),
        )
    return table
