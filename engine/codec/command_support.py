"""What a target understands of the commands of a stream; see command_bridge."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.codec.bridge import ValueBridge

Words = list[bytes]

# Redis versions, in which the target's level is measured.
ENTRIES_READ_SINCE = (7, 0)  # XGROUP … ENTRIESREAD, XSETID … ENTRIESADDED
MOMENTS_SINCE = (6, 2)  # SET … PXAT


class CannotBridge(Exception):
    """There is no exact equivalent; the text says why."""


@dataclass(frozen=True, slots=True)
class CommandSupport:
    """What a target understands.

    commands: their names in upper case. level: the version of Redis it is compatible with. values: for payloads of
    RESTORE, with the RDB version of their footer. drops_field_ttls: as SnapshotPlan.
    """

    commands: frozenset[bytes]
    level: tuple[int, int]
    values: ValueBridge
    rdb_version: int
    takes_key_metadata: bool = False
    takes_conditions: bool = False  # SET … IFEQ
    drops_field_ttls: bool = False
    version: tuple[int, int, int] = (0, 0, 0)  # its own
    source_version: tuple[int, int, int] = (0, 0, 0)  # (0, 0, 0): not known
    fell_away: dict[str, int] = field(default_factory=dict)

    def lacks(self, name: bytes) -> bool:
        """Whether the target has no such command."""
        return name not in self.commands


def number_at(words: Words, index: int) -> int:
    """The count that argument `index` is; raises CannotBridge if it is none."""
    if index >= len(words) or not words[index].isdigit():
        raise CannotBridge("its form is not known")
    return int(words[index])
