"""The expiries that stand on the target and are still to be put right. It outlives a stay at the target."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.replay.settlement import Key


@dataclass(slots=True)
class OwedExpiries:
    """keys, hashes: known by name. scans_keys, scans_hashes: there are more, to be looked for on the target."""

    keys: set[Key] = field(default_factory=set)
    hashes: set[Key] = field(default_factory=set)
    scans_keys: bool = False
    scans_hashes: bool = False

    def __bool__(self) -> bool:
        return bool(self.keys or self.hashes or self.scans_keys or self.scans_hashes)
