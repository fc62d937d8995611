"""`python -m benchmarks full_sync|stream|pressure|codec|scaling|clusters|failover|all`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import clusters, codec, failover, full_sync, pressure, scaling, stream
from benchmarks.data_sets import DATA_SETS
from benchmarks.options import PROJECT_ROOT, Options, Scale, Servers
from benchmarks.process import ChildError, require_compiled
from engine.demo.servers import find_servers

BENCHMARKS: dict[str, Callable[[Options], bool]] = {
    "full_sync": full_sync.run,
    "stream": stream.run,
    "pressure": pressure.run,
    "codec": codec.run,
    "scaling": scaling.run,
    "clusters": clusters.run,
    "failover": failover.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. Returns 1 if a criterion was missed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    options = Options(
        rounds=given.rounds,
        scale=Scale(given.scale),
        source=given.source,
        target=given.target or given.source,
        servers=Servers(given.servers),
        is_diskless=not given.disk,
        replica_load=given.replica_load,
        tools=dict(given.tool),
        trees={name: Path(path).resolve() for name, path in given.tree},
        data_sets=tuple(given.data_set),
        seconds=given.seconds,
        json_path=given.json,
    )
    for name in (options.source, options.target):
        if name not in find_servers():
            parser.error(f"no server {name}; there are {', '.join(find_servers()) or 'none'}")
    if options.servers is Servers.CONTAINERS:
        from tests.fix_containers import engine

        if engine() is None:
            parser.error(
                "no Docker engine answers (or the package docker is not there: extra test)"
            )
    if given.benchmark == "all" and options.json_path is not None:
        parser.error("--json names one file: choose one benchmark")
    try:
        for root in (PROJECT_ROOT, *options.trees.values()):
            require_compiled(root)
    except ChildError as error:
        parser.error(str(error))
    names = list(BENCHMARKS) if given.benchmark == "all" else [given.benchmark]
    held = [BENCHMARKS[name](options) for name in names]
    return 0 if all(held) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures redis-ferry against native replication. Exit status 1: a criterion is missed.",
    )
    parser.add_argument("benchmark", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--rounds", type=_positive, default=3, metavar="N")
    parser.add_argument("--scale", choices=[str(it) for it in Scale], default=str(Scale.FULL))
    parser.add_argument("--source", default="redis-8.2", metavar="SERVER", help="default redis-8.2")
    parser.add_argument("--target", metavar="SERVER", help="default: as the source")
    parser.add_argument(
        "--data-set",
        action="append",
        default=[],
        choices=[it.name for it in DATA_SETS],
        help="full_sync and codec: only this one (may be repeated)",
    )
    parser.add_argument(
        "--servers",
        choices=[str(it) for it in Servers],
        default=str(Servers.BINARIES),
        help="containers: source and target in containers of a Docker engine",
    )
    parser.add_argument("--disk", action="store_true", help="the source sends its RDB from a file")
    parser.add_argument(
        "--replica-load",
        choices=["disabled", "on-empty-db", "swapdb"],
        default="disabled",
        help="repl-diskless-load of the native replica; disabled is the servers' default",
    )
    parser.add_argument("--seconds", type=float, help="stream: length of the paced part")
    parser.add_argument(
        "--tool",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=COMMAND",
        help="full_sync: another tool; {source} {target} {source_address} {target_address} are filled in",
    )
    parser.add_argument(
        "--tree",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=FOLDER",
        help="another redis-ferry tree (built in place) to run beside this one",
    )
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="default: a file in benchmarks/results"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _pair(text: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not (name and equals and rest):
        raise argparse.ArgumentTypeError("must be NAME=…")
    return name, rest


if __name__ == "__main__":
    sys.exit(main())
