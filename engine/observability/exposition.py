"""Prometheus' text format, version 0.0.4, as text and not as objects.

The library makes an object of every sample and checks each name again: for fifty tasks 21 ms of each scrape, 2 % of a core at one
scrape a second. The names here are constants, so this writes lines; tests read them back with the library's parser.
Source: the exposition formats page of Prometheus' documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.stats import LatencyHistogram

NAMESPACE = "redis_ferry"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sheet = list[str]  # of lines, or several in one

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def head(sheet: Sheet, name: str, kind: str, text: str) -> str:
    """Begin a family; returns its whole name. kind: gauge, counter or histogram. text: one line of help."""
    whole = f"{NAMESPACE}_{name}"
    sheet.append(f"# HELP {whole} {text}\n# TYPE {whole} {kind}\n")
    return whole


def label(name: str, value: str) -> str:
    """One label, escaped."""
    return f'{name}="{value.translate(_ESCAPES)}"'


def shown(value: float) -> str:
    """A figure: whole ones exactly, others as Python writes them, which Go reads; durations to the microsecond."""
    return str(value) if isinstance(value, int) else str(round(value, 6))


def write_histogram(
    sheet: Sheet,
    name: str,
    labels: str,
    histogram: LatencyHistogram,
    bounds_seconds: Sequence[float],
) -> None:
    """Add one histogram's samples. labels: without braces, maybe empty."""
    comma = "," if labels else ""
    counts = histogram.cumulative(bounds_seconds)
    sheet += [
        f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}\n'
        for bound, count in zip(bounds_seconds, counts, strict=True)
    ]
    total = histogram.total
    braces = f"{{{labels}}}" if labels else ""
    sheet.append(
        f'{name}_bucket{{{labels}{comma}le="+Inf"}} {total}\n'
        f"{name}_sum{braces} {shown(histogram.sum_seconds)}\n{name}_count{braces} {total}\n"
    )
