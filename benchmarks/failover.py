"""A target primary fails over: how long until every line applies again to every shard.

Each way starts a source (a server: one line; a cluster of three: three lines) and a target cluster of three primaries with
replicas, whose slots lie otherwise than the source's, so that each line writes to each shard. Under a load whose every
command counts a primary is killed while its replica stands still, so that the promoted one lacks acknowledged writes. The
clock runs from the moment when all nodes call the cluster ok until a counter of each line has gone on in each shard; the
counters are read from the servers themselves. CPU is redis-ferry's own meanwhile.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from benchmarks.figures import median, shown
from benchmarks.options import PROJECT_ROOT, Options, Scale
from benchmarks.pairs import BenchmarkError, source_server, wait_until
from benchmarks.process import MeasuredProcess, ferry_command, wait_for_state
from benchmarks.report import Check, Table, say, show, show_checks, write_json
from engine.cluster.topology import SLOTS, Range
from engine.codec.slots import key_slot
from engine.demo.servers import RunningServer, find_servers
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.servers.cluster import ClusterNode, RunningCluster, even_ranges

SHARDS = 3
LINES = (1, 3)
FAILOVERS = {Scale.SMALL: 1, Scale.FULL: 2}  # for each start of the servers
WRITES_PER_SECOND = 1500
BEAT_SECONDS = 0.02
LOST_BYTES = 5000  # acknowledged and not replicated when the primary dies
MOST_SECONDS = 2.0
TIMEOUT_SECONDS = 60.0

Figures = dict[str, Any]


def run(options: Options) -> bool:
    """Run, show, write the JSON; return whether every criterion holds."""
    runs: list[Figures] = []
    roots: dict[str, Path] = {"": PROJECT_ROOT, **options.trees}
    ways = [(tree, lines) for tree in roots for lines in LINES]
    for number in range(options.rounds):
        turn = number % len(ways)
        for tree, lines in ways[turn:] + ways[:turn]:
            for figures in _measured(options, roots[tree], lines):
                runs.append({"way": _name(tree, lines), "round": number, **figures})
                say(
                    f"  {runs[-1]['way']:16} applying again {figures['seconds']:6.3f} s after the cluster is ok,"
                    f" {figures['cpu_seconds']:5.2f} s CPU"
                )
    summary = _summary(runs)
    table = Table(
        f"failover of a target primary, {options.source} → {options.target}, medians of {options.rounds} rounds",
        ("lines", "applying again, s", "longest, s", "engine CPU, s"),
    )
    for way, it in summary.items():
        table.add(way, shown(it["seconds"]), shown(it["longest_seconds"]), shown(it["cpu_seconds"]))
    show(table)
    checks = [
        Check(
            f"applying again, {lines} lines, s",
            summary[_name("", lines)]["seconds"],
            MOST_SECONDS,
        )
        for lines in LINES
    ]
    show_checks(checks)
    path = write_json("failover", options, summary, runs)
    say(f"written: {path.name}")
    return all(check.holds for check in checks)


def _name(tree: str, lines: int) -> str:
    return f"{tree} {lines}".strip()


def _summary(runs: Sequence[Figures]) -> Figures:
    summary: Figures = {}
    for way in dict.fromkeys(it["way"] for it in runs):
        group = [it for it in runs if it["way"] == way]
        summary[way] = {
            name: median([it[name] for it in group]) for name in ("seconds", "cpu_seconds")
        }
        summary[way]["longest_seconds"] = max(it["seconds"] for it in group)
    return summary


def crossed_ranges(shards: int) -> list[list[Range]]:
    """All slots in pieces, dealt out so that each shard has a piece of each of `shards` even ranges."""
    piece = SLOTS // (shards * shards)
    edges = [piece * n for n in range(shards * shards)] + [SLOTS]
    return [
        [(edges[n], edges[n + 1] - 1) for n in range(shard, shards * shards, shards)]
        for shard in range(shards)
    ]


def beats_of(
    source: Sequence[Sequence[Range]], target: Sequence[Sequence[Range]]
) -> list[list[str]]:
    """For each target shard a key for each source shard, in a slot of both."""
    wanted = {(theirs, ours): None for theirs in range(len(target)) for ours in range(len(source))}
    names: dict[tuple[int, int], str] = {}
    for number in range(SLOTS):
        name = f"beat:{number}"
        place = (_shard_of(name, target), _shard_of(name, source))
        names.setdefault(place, name)
        if len(names) == len(wanted):
            break
    return [[names[theirs, ours] for ours in range(len(source))] for theirs in range(len(target))]


def _shard_of(name: str, layout: Sequence[Sequence[Range]]) -> int:
    slot = key_slot(name.encode())
    return next(n for n, it in enumerate(layout) if any(a <= slot <= b for a, b in it))


@contextmanager
def _beating(client: Any, names: Sequence[str]) -> Iterator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT_SECONDS):
            pipe = client.pipeline()
            for name in names:
                pipe.incr(name)
            pipe.execute()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _measured(options: Options, root: Path, lines: int) -> list[Figures]:
    layout = even_ranges(SHARDS)
    with ExitStack() as stack:
        source: RunningServer | RunningCluster
        if lines == 1:
            source = stack.enter_context(source_server(options))
            client: Any = source.client()
        else:
            binary = find_servers()[options.source]
            source = stack.enter_context(
                RunningCluster(
                    binary, layout=layout, replicas=0, config={"repl-backlog-size": "64mb"}
                )
            )
            client = RedisCluster(host="127.0.0.1", port=source.nodes[0].server.port)
        stack.callback(client.close)
        crossed = crossed_ranges(SHARDS)
        target = stack.enter_context(
            RunningCluster(find_servers()[options.target], layout=crossed, replicas=1)
        )
        beats = beats_of(layout if lines > 1 else [[(0, SLOTS - 1)]], crossed)
        process = stack.enter_context(
            MeasuredProcess(ferry_command(source.url, target.url), root=root)
        )
        found = []
        with (
            ClusterLoad(source, rate=WRITES_PER_SECOND) as load,
            _beating(client, [name for names in beats for name in names]),
        ):
            wait_for_state(process, "stream", TIMEOUT_SECONDS)
            for number in range(FAILOVERS[options.scale]):
                load.has_written(2 * WRITES_PER_SECOND)
                found.append(_fail_over(target, number % SHARDS, beats, process))
        wait_until(lambda: not differences(source, target), "equal sides", TIMEOUT_SECONDS)
        process.stop()
    return found


def _fail_over(
    target: RunningCluster, shard: int, beats: Sequence[Sequence[str]], process: MeasuredProcess
) -> Figures:
    victim = target.primaries()[shard]
    (replica,) = target.replicas_of(victim)
    os.kill(replica.server.pid, signal.SIGSTOP)
    try:
        with victim.server.client() as client:
            before = client.info("replication")["master_repl_offset"]
            wait_until(
                lambda: client.info("replication")["master_repl_offset"] > before + LOST_BYTES,
                "writes that the replica lacks",
            )
        victim.server.kill()
    finally:
        os.kill(replica.server.pid, signal.SIGCONT)
    with ExitStack() as stack:
        clients = [stack.enter_context(it.server.client()) for it in target.running]
        ok = wait_until(
            lambda: all(_calls_it_ok(it, replica) for it in clients), "the cluster is ok", 60
        )
        used = process.cpu_so_far()
        servers = [stack.enter_context(it.server.client()) for it in target.primaries()]
        known = [_read(it, names) for it, names in zip(servers, beats, strict=True)]

        def goes_on() -> bool:
            now = [_read(it, names) for it, names in zip(servers, beats, strict=True)]
            return all(
                a > b
                for new, old in zip(now, known, strict=True)
                for a, b in zip(new, old, strict=True)
            )

        seconds = wait_until(goes_on, "applying again", TIMEOUT_SECONDS) - ok
        used = process.cpu_so_far() - used
    victim.server.start()
    target.is_ok()
    return {"seconds": seconds, "cpu_seconds": used}


def _calls_it_ok(client: Any, promoted: ClusterNode) -> bool:
    state = client.execute_command("CLUSTER INFO")
    nodes = client.execute_command("CLUSTER NODES")
    return bool(
        state["cluster_state"] == "ok"
        and any(
            it["node_id"] == promoted.node_id and "master" in it["flags"] and it["slots"]
            for it in nodes.values()
        )
    )


def _read(client: Any, names: Sequence[str]) -> list[int]:
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.get(name)
    try:
        return [int(it or 0) for it in pipe.execute()]
    except RedisError as error:
        raise BenchmarkError(f"the counters cannot be read: {error}") from error
