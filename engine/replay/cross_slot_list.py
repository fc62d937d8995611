"""Commands over several slots: counted, told, and listed with what became of each.

The latest are in the status, many more in a file of the task's folder. What is read again, after a lost connection or a
rollback, is counted and listed once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from engine.replay.listing import append_rows, read_page
from engine.stats import CrossSlotEvent, LineStats

log = structlog.get_logger("engine.replay")

LIST_NAME = "cross-slot.jsonl"
# Of the file, and as much again of its older part: some 100,000 events together.
MOST_BYTES = 8 * 1024 * 1024
SHOWN_KEYS = 8
SHOWN_KEY_BYTES = 80
# Of one block, which may be a transaction of any length; of more only the numbers are told.
MOST_OF_A_BLOCK = 10_000
TELL_AGAIN_SECONDS = 60.0

SPLIT, RESOLVED, STOPPED = "split", "resolved", "stopped"
_MEANINGS = {
    SPLIT: "split by slot",
    RESOLVED: "what it has made is fetched from the source",
}


def read_cross_slot(
    directory: Path, *, offset: int, limit: int
) -> tuple[int, list[dict[str, Any]]]:
    """How many events the list in `directory` has, and a page of them, oldest first."""
    return read_page(directory / LIST_NAME, offset=offset, limit=limit)


class CrossSlotList:
    """The list of one stay at the target. directory: None: only what the status shows."""

    def __init__(self, directory: Path | None, stats: LineStats) -> None:
        self._path = None if directory is None else directory / LIST_NAME
        self._stats = stats
        self._held: list[CrossSlotEvent] = []  # of the block at hand
        self._more: Counter[tuple[str, str]] = Counter()  # of it, beyond MOST_OF_A_BLOCK
        self._told_at: dict[str, float] = {}  # by command

    def note(
        self, command: str, keys: Sequence[bytes], offset: int, handled: str, *, count: int = 1
    ) -> None:
        """One event of the block at hand. handled: SPLIT or RESOLVED; count: events that are told as one."""
        if len(self._held) < MOST_OF_A_BLOCK:
            self._held.append(_event(command, keys, offset, handled, count))
        else:
            self._more[command, handled] += count

    def end_block(self, offset: int) -> None:
        """Count and list what the block had, unless a block up to here was counted before."""
        if not self._held:
            return
        events = list(self._take_block(offset))
        if offset <= self._stats.cross_slot_offset:
            return
        self._stats.cross_slot_offset = offset
        for it in events:
            self._count(it)
        self._list(events)

    def stop(self, command: str, keys: Sequence[bytes], offset: int) -> None:
        """List what was counted of the block, and the command that ends the task."""
        self.end_block(offset)
        self._list([_event(command, keys, offset, STOPPED, 1)])

    def _take_block(self, offset: int) -> Iterator[CrossSlotEvent]:
        yield from self._held
        for (command, handled), count in self._more.items():
            yield _event(command, (), offset, handled, count)
        self._held, self._more = [], Counter()

    def _count(self, event: CrossSlotEvent) -> None:
        stats = self._stats
        if event.handled == SPLIT:
            stats.cross_slot_split += event.count
        else:
            stats.cross_slot_resolved += event.count
        if event.is_transaction:
            return
        stats.cross_slot[event.command] += event.count
        now = time.monotonic()
        if now - self._told_at.get(event.command, -TELL_AGAIN_SECONDS) >= TELL_AGAIN_SECONDS:
            self._told_at[event.command] = now
            log.info(
                "stream.cross_slot",
                command=event.command,
                count=stats.cross_slot[event.command],
                keys=list(event.keys),
                offset=event.offset,
                means=_MEANINGS[event.handled],
                listed_in="the status" if self._path is None else str(self._path),
            )

    def _list(self, events: Sequence[CrossSlotEvent]) -> None:
        self._stats.cross_slot_latest.extend(events)
        if self._path is None:
            return
        try:
            append_rows(self._path, (it.as_dict() for it in events), most_bytes=MOST_BYTES)
        except OSError as error:
            log.warning("cross_slot.not_written", path=str(self._path), error=str(error))


def _event(
    command: str, keys: Sequence[bytes], offset: int, handled: str, count: int
) -> CrossSlotEvent:
    return CrossSlotEvent(
        ts=round(time.time(), 3),
        command=command,
        keys=tuple(
            it[:SHOWN_KEY_BYTES].decode("utf-8", "backslashreplace") for it in keys[:SHOWN_KEYS]
        ),
        key_count=len(keys),
        offset=offset,
        handled=handled,
        count=count,
    )
