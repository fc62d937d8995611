"""What makes one line of a task: its name, its source shard, the slots it answers for. Made by planning.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.cluster.places import Place
from engine.codec.slots import key_slot, slot_tags
from engine.replay.selected_keys import SelectedKeys
from engine.replay.settlement import SourceShard
from engine.settings import TaskSettings

ONLY_LINE = "0"  # the name of the line of a source that is no cluster


@dataclass(frozen=True, slots=True)
class LinePlan:
    """slots: those of the source shard; None for a source that is no cluster.

    noted_shard: what goes into the checkpoint about the shard. check_shard: compares with what stands there, and raises
    SourceRefused if slots have moved since.
    """

    name: str
    place: Place
    slots: frozenset[int] | None = None
    noted_shard: Callable[[], str] = lambda: ""
    check_shard: Callable[[str], None] = lambda _: None

    def has_key(self, key: bytes) -> bool:
        """Whether the line's source may hold the key."""
        return self.slots is None or key_slot(key) in self.slots

    def keys(self, settings: TaskSettings) -> SelectedKeys:
        """What of the line's keys the task takes along."""
        return SelectedKeys(settings, has_name=self.has_key, is_shard=self.slots is not None)

    def source_shard(self) -> SourceShard:
        """What whoever asks the source about keys has to know."""
        probe_key = b""
        if self.slots:
            slot = min(self.slots)
            probe_key = b"{%b}" % slot_tags()[4 * slot : 4 * slot + 4]
        return SourceShard(
            lambda: self.place.endpoint, probe_key, is_cluster=self.slots is not None
        )
