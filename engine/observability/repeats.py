"""Keeps a trouble that lasts for days from filling the log: what repeats is said less and less often."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

FREE_REPEATS = 5
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 600.0
REMEMBERED = 1024

_DIGITS = re.compile(r"\d+")
_NOT_COMPARED = frozenset({"ts", "level", "after_seconds"})


@dataclass(slots=True)
class _Seen:
    count: int = 0
    left_out: int = 0
    pause_seconds: float = 0.0
    printed_at: float = 0.0
    seen_at: float = 0.0


class Repeats:
    """A processor of structlog. The same event with the same facts, figures aside, is the same trouble.

    The first FREE_REPEATS pass; then pauses between two lines grow from FIRST_PAUSE_SECONDS to LONGEST_PAUSE_SECONDS, and
    a line that passes says how many were left out before it (`left_out`). What was not seen for the longest pause is new.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: OrderedDict[tuple[str, ...], _Seen] = OrderedDict()

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Let it pass, or raise structlog.DropEvent."""
        now, key = self._now(), _key(event)
        seen = self._seen.get(key)
        if seen is None or now - seen.seen_at > LONGEST_PAUSE_SECONDS:
            seen = self._seen[key] = _Seen()
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        seen.seen_at = now
        seen.count += 1
        if seen.count > FREE_REPEATS:
            if now - seen.printed_at < seen.pause_seconds:
                seen.left_out += 1
                raise structlog.DropEvent
            seen.pause_seconds = min(
                max(2 * seen.pause_seconds, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS
            )
        seen.printed_at = now
        if seen.left_out:
            event["left_out"] = seen.left_out
            seen.left_out = 0
        return event


def _key(event: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{name}={_DIGITS.sub('#', str(value))}"
        for name, value in sorted(event.items())
        if name not in _NOT_COMPARED
    )
