"""What `redis-ferry task` prints on stdout: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

from engine.quantities import byte_count


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    typer.echo(json.dumps(value, separators=(",", ":")))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as they must be; nothing for no rows but the heads."""
    lines = [list(heads), *([_cell(it) for it in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    for line in lines:
        cells = zip(line, widths, strict=True)
        typer.echo("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """One field a line; those without a value are left out."""
    shown = {name: _cell(value) for name, value in fields.items() if value not in (None, "", [])}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        typer.echo(f"{name.ljust(width)}  {value}")


def event_line(kind: str, facts: Mapping[str, Any]) -> str | None:
    """An event of `watch` for people; None for what they need not see."""
    match kind:
        case "status":
            return str(facts["status"])
        case "log":
            return f"{facts['created_at'][11:19]} {facts['log_level']:<5} {facts['message']}"
        case "stats" if facts["is_migrating"]:
            return (
                f"{facts['full_migration_progress']:g} %, {byte_count(facts['offset'])} behind, "
                f"{facts['target_ops']:,} operations/s, {facts['target_input_kbps']:,} KB/s"
            )
        case "exchange":
            return f"addresses: {facts['task_status']}"
        case _:
            return None


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
