"""PNG plots of result files: `python -m benchmarks.plots benchmarks/results/*.json`. Needs matplotlib (extra `bench`).

full_sync: seconds by data set and way. stream: throughput and latency. pressure: lag, spool and memory over time. scaling: time
and memory over keys, value sizes and shards. A plot stands beside its file, with machine, commit and day in its foot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
PANEL_INCHES = (6.4, 4.2)
PANELS_A_ROW = 4

Result = dict[str, Any]


def draw(path: Path) -> Path | None:
    """Draw one result file; None if there is no plot of its kind. ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure

    result: Result = json.loads(path.read_text(encoding="utf-8"))
    panels = _PANELS.get(result["benchmark"], ())
    if not panels:
        return None
    width, height = PANEL_INCHES
    columns = min(len(panels), PANELS_A_ROW)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel, axis in zip(panels, axes, strict=False):
        panel(axis, result)
        axis.grid(visible=True, alpha=0.3)
    machine, options = result["machine"], result["options"]
    figure.text(
        0.01,
        0.01,
        f"{result['when'][:10]}, commit {result['commit']}, {machine['cores']} × {machine['cpu']}, "
        f"load average {machine.get('load_average_1_minute', 0):.1f} at the end\n"
        f"{options['source']} → {options['target']}, {options.get('servers', 'binaries')}, {options['scale']}, "
        f"{options['rounds']} rounds",
        fontsize=7,
        color="gray",
    )
    figure.tight_layout(rect=(0, 0.06 if rows == 1 else 0.03, 1, 1))
    made = path.with_suffix(".png")
    figure.savefig(made, dpi=110)
    return made


def _full_sync(axis: Any, result: Result) -> None:
    sets = result["summary"]["data_sets"]
    ways = list(dict.fromkeys(way for row in sets.values() for way in row))
    thickness = 0.8 / len(ways)
    for number, way in enumerate(ways):
        places = [at + number * thickness for at in range(len(sets))]
        seconds = [row.get(way, {}).get("seconds", 0) for row in sets.values()]
        axis.bar(places, seconds, thickness, label=way)
    axis.set_xticks([at + 0.4 - thickness / 2 for at in range(len(sets))], list(sets), rotation=15)
    axis.set(title="full sync", ylabel="seconds")
    axis.legend()


def _throughput(axis: Any, result: Result) -> None:
    ways = result["summary"]["pipelined"]
    axis.bar(list(ways), [it["writes_per_second"] for it in ways.values()])
    axis.set(title="stream: pipelined writes", ylabel="writes/s")


def _latency(axis: Any, result: Result) -> None:
    names = ("p50_ms", "p90_ms", "p99_ms", "p999_ms")
    for way, it in result["summary"]["paced"].items():
        axis.plot(
            [name.removesuffix("_ms") for name in names], [it[n] for n in names], "o-", label=way
        )
    axis.set(title="stream: from sending to arrival", ylabel="ms", yscale="log")
    axis.legend()


def _over_time(*series: tuple[str, str], label: str) -> Callable[[Any, Result], None]:
    def panel(axis: Any, result: Result) -> None:
        rows = result["runs"][0].get("series", [])
        for name, title in series:
            axis.plot([it["seconds"] for it in rows], [it[name] for it in rows], label=title)
        axis.set(title=f"pressure: {label}", xlabel="seconds", ylabel=label)
        axis.legend()

    return panel


def _curve(
    curve: str, label: str, *series: tuple[str, str, float]
) -> Callable[[Any, Result], None]:
    def panel(axis: Any, result: Result) -> None:
        points = result["summary"].get(curve, [])
        for name, title, unit in series:
            if points and points[0].get(name) is not None:
                axis.plot(
                    [it["at"] for it in points],
                    [it[name] / unit for it in points],
                    "o-",
                    label=title,
                )
        axis.set(
            title=f"full sync by {_TITLES[curve]}",
            xlabel=_TITLES[curve],
            ylabel=label,
            xscale="linear" if curve in _COUNTED else "log",
        )
        if curve in _COUNTED:
            axis.set_xticks([it["at"] for it in points])
            axis.set_ylim(bottom=0)
        elif label == "seconds":
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        if axis.get_lines():
            axis.legend()

    return panel


_COUNTED = ("shards", "lines")
_TITLES = {
    "keys": "number of keys",
    "value_bytes": "bytes of a value",
    "shards": "shards of the target",
    "lines": "shards of the source",
}
_TIMES = (
    ("seconds", "redis-ferry", 1.0),
    ("native_seconds", "native", 1.0),
    ("cpu_seconds", "redis-ferry, CPU", 1.0),
)
_MEMORY = (
    ("peak_rss_bytes", "redis-ferry, peak RSS", float(MIB)),
    ("peak_own_bytes", "of it, not of mapped files", float(MIB)),
)
_PANELS: dict[str, Sequence[Callable[[Any, Result], None]]] = {
    "full_sync": (_full_sync,),
    "stream": (_throughput, _latency),
    "pressure": (
        _over_time(("lag_seconds", "lag"), label="seconds"),
        _over_time(("spool_disk_mib", "spool on disk"), label="MiB on disk"),
        _over_time(("rss_mib", "resident memory"), label="MiB of memory"),
    ),
    "scaling": (
        _curve("keys", "seconds", *_TIMES),
        _curve("keys", "MiB", *_MEMORY),
        _curve("value_bytes", "seconds", *_TIMES),
        _curve("value_bytes", "MiB", *_MEMORY),
        _curve("shards", "seconds", *_TIMES),
        _curve("shards", "MiB", *_MEMORY),
        _curve("lines", "seconds", *_TIMES),
        _curve("lines", "MiB", *_MEMORY),
    ),
}


def main() -> int:
    """Draw every file of the command line."""
    for name in sys.argv[1:]:
        made = draw(Path(name))
        sys.stdout.write(f"{name}: {'no plot of its kind' if made is None else made.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
