"""Tables on the terminal and the JSON file of a run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, machine, versions
from benchmarks.options import PROJECT_ROOT, Options, Servers
from benchmarks.plots import draw

RESULTS = PROJECT_ROOT / "benchmarks" / "results"


@dataclass(slots=True)
class Table:
    """Cells are text already; the first column is aligned left, the others right."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)


@dataclass(frozen=True, slots=True)
class Check:
    """A figure against its limit, `holds` saying whether it is kept."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the limit is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{'ok  ' if self.holds else 'MISS'} {self.name}: {self.value:.3g} ({sign} {self.limit:g})"


def say(text: str) -> None:
    """A line of progress on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show(table: Table) -> None:
    """Print a table: rich where it is installed, else plain text."""
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ModuleNotFoundError:
        sys.stdout.write(_plain(table))
        return
    drawn = RichTable(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*row)
    console = Console()
    # Without a terminal rich assumes 80 columns, and cuts.
    (console if console.is_terminal else Console(width=200)).print(drawn)


def _plain(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    lines = [table.title]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n\n"


def show_checks(checks: Sequence[Check]) -> None:
    """Print the criteria, one a line."""
    for check in checks:
        sys.stdout.write(f"{check}\n")
    sys.stdout.write("\n")
    sys.stdout.flush()


def write_json(
    name: str, options: Options, summary: dict[str, Any], runs: Sequence[dict[str, Any]]
) -> Path:
    """Write the run where it belongs (or to --json); return the path."""
    short = commit()
    path = options.json_path
    if path is None:
        suffix = "" if options.scale == "full" else f"-{options.scale}"
        suffix += "" if options.servers is Servers.BINARIES else f"-{options.servers}"
        path = RESULTS / f"{time.strftime('%Y-%m-%d')}-{short}-{name}{suffix}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": short,
        "machine": machine(),
        "versions": versions(),
        "options": {
            "rounds": options.rounds,
            "scale": str(options.scale),
            "source": options.source,
            "target": options.target,
            "servers": str(options.servers),
            "is_diskless": options.is_diskless,
            "replica_load": options.replica_load,
            "others": [*options.tools, *options.trees],
        },
        "summary": summary,
        "runs": list(runs),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    try:
        made = draw(path)
    except ModuleNotFoundError:
        say("no plot: pip install -e '.[bench]'")
    else:
        if made is not None:
            say(f"drawn: {made.name}")
    return path
