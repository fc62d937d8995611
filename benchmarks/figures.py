"""The little arithmetic of the benchmarks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

__all__ = ["geometric_mean", "median", "percentile", "ratio", "shown"]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value at `share` (0 to 1) of an ascending sequence, nearest rank; NaN if it is empty."""
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share > 0 else 0)]


def geometric_mean(values: Iterable[float]) -> float:
    """NaN for no values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else math.nan


def ratio(value: float | None, reference: float | None) -> float | None:
    """`value` in units of `reference`; None where one of them was not measured."""
    return value / reference if value is not None and reference else None


def shown(value: float | None, digits: int = 2, unit: str = "") -> str:
    """Text for a table cell; a dash for what was not measured."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.{digits}f}{unit}"
