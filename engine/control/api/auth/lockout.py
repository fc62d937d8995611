"""Shuts an access key out after failures in a row. Pure: the clock comes from outside."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5
LOCKED_SECONDS = 300.0


@dataclass(slots=True)
class _Failures:
    count: int = 0
    locked_until: float = 0.0


class Lockout:
    """Counts failures by known key; unknown ones have nothing to protect and would only take memory."""

    def __init__(self) -> None:
        self._by_key: dict[str, _Failures] = {}

    def is_locked(self, key: str, now: float) -> bool:
        """Whether the key is shut out at `now` (monotonic seconds)."""
        found = self._by_key.get(key)
        return found is not None and now < found.locked_until

    def note_failure(self, key: str, now: float) -> None:
        """Count a failure; the fifth in a row locks."""
        found = self._by_key.setdefault(key, _Failures())
        found.count += 1
        if found.count >= FAILURES:
            found.count = 0
            found.locked_until = now + LOCKED_SECONDS

    def note_success(self, key: str) -> None:
        """Forget the failures."""
        self._by_key.pop(key, None)
