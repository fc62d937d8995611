"""The codec alone: bytes and keys (or commands, replies) a second of CPU time, compiled and interpreted.

The RDBs are what a source saves of the five data sets. The interpreted form gets a part of the work and runs
in a copy of the tree without the compiled files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from benchmarks.data_sets import DataSet, chosen
from benchmarks.figures import median, shown
from benchmarks.options import PROJECT_ROOT, Options, Scale
from benchmarks.pairs import source_server
from benchmarks.report import Table, say, show, write_json
from benchmarks.snapshots import saved_rdb, snapshot_plan

STREAM_COMMANDS = 2_000_000
REPLIES = 10_000_000
INTERPRETED_SHARE = 50  # the interpreted form gets one part of so many
NUMBERS = ("units", "bytes_in", "bytes_out", "seconds", "units_per_second", "bytes_per_second")
NOT_COPIED = ("*.so", "*.pyd", "*.c", "*.html", "__pycache__", "*.json")
COMPILED, INTERPRETED = "compiled", "interpreted"
MIB = 1024 * 1024

Figures = dict[str, Any]


def run(options: Options) -> bool:
    """Run, show, write the JSON; there is no criterion here."""
    runs: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="redis-ferry-bench-") as folder:
        trees = {COMPILED: PROJECT_ROOT, INTERPRETED: _interpreted_tree(Path(folder))}
        for data_set in chosen(options.data_sets):
            for form, tree in trees.items():
                runs += _snapshot_runs(options, data_set, form, tree)
        for name, what, count, more in (
            ("stream", "stream", STREAM_COMMANDS, ()),
            ("… of a prefix", "stream", STREAM_COMMANDS, ("--include-key=str:*",)),
            ("… renamed", "stream", STREAM_COMMANDS, ("--key-prefix-add=new:",)),
            ("replies", "replies", REPLIES, ()),
        ):
            for form, tree in trees.items():
                share = 1 if form == COMPILED else INTERPRETED_SHARE
                arguments = (what, "--count", str(options.scale.of(count) // share), *more)
                runs += _timed_rounds(options, name, form, tree, arguments)
    summary = _summary(runs)
    show(_table(options, summary))
    path = write_json("codec", options, summary, runs)
    say(f"written: {path.name}")
    return True


def _interpreted_tree(folder: Path) -> Path:
    """The sources of this tree without anything compiled."""
    for package in ("engine", "benchmarks"):
        shutil.copytree(
            PROJECT_ROOT / package,
            folder / package,
            ignore=shutil.ignore_patterns(*NOT_COPIED),
        )
    return folder


def _snapshot_runs(options: Options, data_set: DataSet, form: str, tree: Path) -> Iterator[Figures]:
    if form == INTERPRETED:
        data_set = replace(data_set, keys=max(100, data_set.keys // INTERPRETED_SHARE))
    with source_server(options) as source:
        version = snapshot_plan(source).target_rdb_version
        data_set.fill(source, options.scale if form == COMPILED else Scale.FULL)
        arguments = ("snapshot", "--rdb", str(saved_rdb(source)), "--rdb-version", str(version))
        yield from _timed_rounds(options, data_set.name, form, tree, arguments)


def _timed_rounds(
    options: Options, name: str, form: str, tree: Path, arguments: tuple[str, ...]
) -> Iterator[Figures]:
    for number in range(options.rounds):
        command = [sys.executable, "-m", "benchmarks.transcoding", *arguments]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
        figures = cast(Figures, json.loads(done.stdout))
        if figures["is_compiled"] != (form == COMPILED):
            raise RuntimeError(f"the codec in the {form} tree is not {form}")
        yield {"name": name, "form": form, "round": number, **figures}
    rate = shown(figures["bytes_per_second"] / MIB, 0)
    say(f"  {name:14} {form:12} {rate:>8} MiB/s")


def _summary(runs: list[Figures]) -> Figures:
    summary: Figures = {}
    for name, form in dict.fromkeys((run["name"], run["form"]) for run in runs):
        group = [run for run in runs if (run["name"], run["form"]) == (name, form)]
        summary.setdefault(name, {})[form] = {
            number: median([run[number] for run in group]) for number in NUMBERS
        }
    return summary


def _table(options: Options, summary: Figures) -> Table:
    table = Table(
        f"codec, RDBs of {options.source}, a second of CPU time, medians of {options.rounds}",
        ("what", "MiB/s", "keys, commands or replies/s", "CPU, s/M", "interpreted MiB/s", "interpreted units/s",
         "compiled ×"),
    )  # fmt: skip
    for name, forms in summary.items():
        fast, slow = forms[COMPILED], forms[INTERPRETED]
        table.add(
            name,
            shown(fast["bytes_per_second"] / MIB, 0),
            shown(fast["units_per_second"], 0),
            shown(1e6 / fast["units_per_second"], 3),
            shown(slow["bytes_per_second"] / MIB, 1),
            shown(slow["units_per_second"], 0),
            shown(fast["bytes_per_second"] / slow["bytes_per_second"], 0),
        )
    return table
