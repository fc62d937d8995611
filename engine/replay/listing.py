"""Lists in a task's folder: a JSON object a line, appended to, and read a page at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def older_part(path: Path) -> Path:
    """Where the older rows of a list with a bound are: `name.jsonl` has `name.1.jsonl`."""
    return path.with_name(f"{path.stem}.1{path.suffix}")


def append_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], *, most_bytes: int | None = None
) -> None:
    """Append rows. most_bytes: a file that exceeds it becomes the older part, and the one before goes.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        size = file.tell()
    if most_bytes is not None and size > most_bytes:
        path.replace(older_part(path))


def read_page(path: Path, *, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """How many rows there are, and `limit` of them from number `offset` on, oldest first; none without a list."""
    total, rows = 0, []
    for part in (older_part(path), path):
        with suppress(FileNotFoundError), part.open(encoding="utf-8") as file:
            for line in file:
                if offset <= total < offset + limit:
                    with suppress(ValueError):  # being written
                        rows.append(json.loads(line))
                total += 1
    return total, rows
