"""A line's keys as the target has them, and what they are at the source. See engine/selection.py."""

from __future__ import annotations

from collections.abc import Callable

from engine.codec.key_filter import KeyFilter
from engine.codec.name_owners import NameOwners
from engine.codec.stream_selector import StreamSelector
from engine.replay.owed import Key
from engine.settings import TaskSettings, UnsupportedPolicy


class SelectedKeys:
    """has_name: whether the line's source may hold a key of this name. is_shard: it is a cluster's, with database 0 only.

    owners: where databases of the source share one of the target.
    """

    def __init__(
        self,
        settings: TaskSettings,
        *,
        has_name: Callable[[bytes], bool] = lambda _: True,
        is_shard: bool = False,
    ) -> None:
        self.selection = selection = settings.selection
        self._skips_refused = settings.on_unsupported is UnsupportedPolicy.SKIP
        self._has_name = has_name
        self._is_shard = is_shard
        self.owners: NameOwners | None = None
        self._filter = KeyFilter(selection.include_keys, selection.exclude_keys)

    def selector(self, offset: int, db: int) -> StreamSelector | None:
        """What the stream goes through from an offset on, where the source has selected `db`; None: it goes as it is."""
        if self.selection.is_everything:
            return None
        return StreamSelector(self.selection, offset, db, self._skips_refused, self.owners)

    def source_of(self, db: int, name: bytes) -> Key | None:
        """The source's key that is this one at the target; None: there is no such, or nobody knows which."""
        original = self.selection.source_name(name)
        if original is None or not self._has_name(original):
            return None
        if not self._filter.takes_name(original):
            return None
        source_db = self._source_db(db, original)
        return None if source_db is None else (source_db, original)

    def _source_db(self, db: int, name: bytes) -> int | None:
        if self._is_shard:
            return 0 if self.selection.target_db(0) == db else None
        candidates = self.selection.source_dbs(db)
        if len(candidates) > 1:
            return None if self.owners is None else self.owners.owner_of(candidates[0], name)
        return candidates[0] if candidates else None

    def has(self, db: int, name: bytes) -> bool:
        """Whether a key of the target may be the line's."""
        return self.source_of(db, name) is not None
