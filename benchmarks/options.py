"""What a benchmark run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Servers(StrEnum):
    """How source and target run."""

    BINARIES = "binaries"
    CONTAINERS = "containers"


class Scale(StrEnum):
    """How much data: `full` is what the criteria are about, `small` a tenth of it for a quick look."""

    SMALL = "small"
    FULL = "full"

    def of(self, count: int) -> int:
        """Return `count` at this scale."""
        return count if self is Scale.FULL else max(1, count // 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One call of `python -m benchmarks`.

    source, target: names of engine.demo.binaries. servers: they run as processes or in containers. is_diskless: the source sends its RDB without a file.
    replica_load: the native replica's repl-diskless-load (`disabled` is every server's default).
    tools: name -> command with {source} and {target} in it. trees: name -> root of another redis-ferry
    tree. data_sets: names to run; empty: all. seconds: length of the paced part of `stream`.
    """

    rounds: int = 3
    scale: Scale = Scale.FULL
    source: str = "redis-8.2"
    target: str = "redis-8.2"
    servers: Servers = Servers.BINARIES
    is_diskless: bool = True
    replica_load: str = "disabled"
    tools: dict[str, str] = field(default_factory=dict)
    trees: dict[str, Path] = field(default_factory=dict)
    data_sets: tuple[str, ...] = ()
    seconds: float | None = None
    json_path: Path | None = None
