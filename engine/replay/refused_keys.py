"""What the target cannot have: counted, and listed in a file of the task's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

from engine.codec.command_table import COMMANDS, KEYLESS
from engine.replay.listing import append_rows, read_page
from engine.stats import LineStats

log = structlog.get_logger("engine.replay")

REPORT_NAME = "refused-keys.jsonl"
SHOWN = 20  # in the log; the file has them all

_NAMES = frozenset(it.partition("|")[0] for it in (*COMMANDS, *KEYLESS))

Refusal = tuple[int, bytes, str, str]  # database, key, type or command, why


def read_refused(directory: Path, *, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
    """How many the report in `directory` names, and `limit` of them from number `offset` on; none without a report."""
    return read_page(directory / REPORT_NAME, offset=offset, limit=limit)


class RefusedKeys:
    """The report of one line. directory: None: only the log and the count."""

    def __init__(self, directory: Path | None, stats: LineStats) -> None:
        self._path = None if directory is None else directory / REPORT_NAME
        self._stats = stats

    def begin(self) -> None:
        """Another snapshot begins: what an earlier one had to leave out is told anew."""
        self._stats.refused = 0
        self._stats.refused_by_kind.clear()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def add(self, refusals: list[Refusal], *, are_commands: bool = False) -> None:
        """Note these and empty the list. are_commands: of the stream; what they are is the source's word then.

        The file has a JSON object a line: db, key (what is no UTF-8 stands escaped in it), what, why.
        """
        if not refusals:
            return
        for db, key, what, why in refusals[: max(0, SHOWN - self._stats.refused)]:
            log.warning("key.refused", db=db, key=key[:80], what=what, why=why)
        self._stats.refused += len(refusals)
        self._stats.refused_by_kind.update(
            f"command {it if it in _NAMES else 'of a module'}" if are_commands else it
            for _, _, it, _ in refusals
        )
        if self._path is not None:
            self._write(self._path, refusals)
        refusals.clear()

    @staticmethod
    def _write(path: Path, refusals: Iterable[Refusal]) -> None:
        rows = (
            {"db": db, "key": key.decode("utf-8", "backslashreplace"), "what": what, "why": why}
            for db, key, what, why in refusals
        )
        try:
            append_rows(path, rows)
        except OSError as error:
            log.warning("refused_keys.not_written", path=str(path), error=str(error))

    def note_bridged(self, count: int) -> None:
        """So many keys and commands have been written in another form than the source's."""
        self._stats.bridged = count

    @property
    def bridged(self) -> int:
        """What `note_bridged` said last."""
        return self._stats.bridged

    def note_left_out(self, kinds: Counter[str]) -> None:
        """What was left out of commands that were applied without it (field TTLs), by kind."""
        self._stats.left_out_of_commands = kinds

    @property
    def left_out(self) -> Counter[str]:
        """What `note_left_out` said last."""
        return self._stats.left_out_of_commands

    def tell(self) -> None:
        """Say at the end how many there were and where they are listed."""
        if self._stats.refused:
            log.warning(
                "keys.refused",
                count=self._stats.refused,
                listed_in="the log" if self._path is None else str(self._path),
            )
