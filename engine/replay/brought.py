"""What a snapshot has to do with what the task, or others, have put on the target before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from engine.codec.command_text import encode
from engine.codec.key_recorder import KeyRecorder
from engine.errors import TargetRefused
from engine.ledger.ledger import Ledger
from engine.ledger.owners import Owners
from engine.replay.leftovers import (
    REPORT_NAME,
    Delete,
    count_unknown,
    keep_existing,
    remove_brought,
    remove_leftovers,
    sort_names,
    write_report,
)
from engine.replay.selected_keys import SelectedKeys
from engine.replay.shards import Place, each_server
from engine.replay.target_session import TargetSession
from engine.settings import ConflictPolicy, TaskSettings
from engine.stats import LineStats

log = structlog.get_logger("engine.replay")


class Brought:
    """The line's ledger, and what is made of it.

    A snapshot that is not the task's first one finds keys of earlier attempts on the target. With `replace` it goes over
    them, and what it does not have is removed afterwards. With `skip` and `fail`, which leave a key that is there alone,
    they are removed before.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: TaskSettings,
        stats: LineStats,
        has_key: Callable[[int, bytes], bool] = lambda _db, _key: True,
        owners: Owners | None = None,
    ) -> None:
        self._owners = owners
        self._has_key = has_key
        self._ledger = ledger
        self._settings = settings
        self._stats = stats

    @classmethod
    def open(
        cls, line: str, settings: TaskSettings, stats: LineStats, keys: SelectedKeys
    ) -> Brought:
        """The line's, from its files; `keys` gets to know who owns a name.

        Raises:
            LedgerError, ConfigError.
        """
        directory = settings.spool.directory
        ledger = Ledger.open(None if directory is None else directory / f"ledger-{line}")
        owners = Owners.open(
            None if directory is None else directory / f"owners-{line}", settings.selection
        )
        keys.owners = None if owners is None else owners.names
        return cls(ledger, settings, stats, keys.has, owners)

    @property
    def is_empty(self) -> bool:
        """Whether the task has brought nothing, as far as is known."""
        return not self._ledger.dbs

    def require_owners(self) -> None:
        """See that the stream can be followed.

        Raises:
            TargetRefused: as Owners.require_known.
        """
        if self._owners is not None:
            self._owners.require_known()

    async def sort_names(self) -> None:
        """See that the names brought can be asked for. With ten millions it takes a second or two.

        Raises:
            LedgerError.
        """
        await sort_names(self._ledger)

    @property
    def recorder(self) -> KeyRecorder | None:
        """What the transcoders note names with."""
        recorder = self._ledger.recorder
        if recorder is not None:
            # A flush is then about the names noted, and these would be gone with it.
            recorder.ignores_flushes = self._settings.selection.is_about_data
        return recorder

    @property
    def ledger_id(self) -> str:
        """Goes into the checkpoint; empty if no list is kept."""
        return self._ledger.id if self._ledger.directory is not None else ""

    def take_over(self, session: TargetSession) -> None:
        """Find out whether the list is that of what this target holds."""
        found = session.checkpoint
        ledger = self._ledger
        if self._owners is not None:
            is_ours = found is not None and found.ledger == ledger.id
            self._owners.take_over(is_new=not session.had_checkpoint, is_ours=is_ours)
        if not session.had_checkpoint or found is None:
            ledger.renew()
        elif found.ledger != ledger.id:
            ledger.renew(is_complete=False)
        else:
            ledger.resume_at(None if found.position is None else found.position.offset)
        session.ledger_id = self.ledger_id

    def note_applied(self, offset: int) -> None:
        """The target has the stream up to `offset`."""
        self._ledger.note_applied(offset)

    @property
    def is_known(self) -> bool:
        """Whether a list tells what the task has put there."""
        return self._ledger.is_trusted

    def is_brought(self, db: int, key: bytes) -> bool:
        """Whether the task may have put the key there.

        Where no list tells, it may if the source has a key of this name and it was to be replaced.
        """
        if not self._has_key(db, key):
            return False  # another line's, which writes to the same target
        if self._ledger.is_trusted:
            return bool(self._ledger.brought(db, [key]))
        return self._settings.on_conflict is ConflictPolicy.REPLACE

    def own(self, db: int, keys: Sequence[bytes]) -> list[bytes]:
        """Those of keys that may be the line's that the task has put there; where no list tells, all of them."""
        if self._ledger.is_trusted:
            return self._ledger.brought(db, keys)
        return list(keys) if self._settings.on_conflict is ConflictPolicy.REPLACE else []

    def is_kept(self, db: int, key: bytes) -> bool:
        """Whether the key's value is the target's own (`skip`)."""
        return self._ledger.is_kept(db, key)

    async def before_snapshot(self, session: TargetSession) -> None:
        """Make the target ready for a snapshot, the first one or another.

        Raises:
            TargetRefused: keys of earlier attempts cannot be told from the target's own.
            TargetUnreachable, TargetAuthError, LedgerError.
        """
        ledger = self._ledger
        await sort_names(
            ledger
        )  # of an attempt before: names that come again and again take room once
        if self._settings.on_conflict is not ConflictPolicy.REPLACE:
            await self._keep_or_remove(session)
        ledger.begin_snapshot(is_first=True)
        if self._owners is not None:
            self._owners.renew()
        session.ledger_id = self.ledger_id

    async def _keep_or_remove(self, session: TargetSession) -> None:
        ledger = self._ledger
        is_first = not session.had_checkpoint
        if not is_first and not ledger.is_trusted:
            raise TargetRefused(
                "the target holds keys of an earlier attempt of this task, and no list on this machine tells which: "
                f"--on-conflict {self._settings.on_conflict} would take them for the target's own",
                hint="run it where it ran before (same --spool-dir), empty the target, or use --on-conflict replace",
            )
        removes, keeps = bool(ledger.dbs), ledger.is_trusted and not ledger.has_kept
        async for client, _ in each_server(session):
            if removes:
                counts = await remove_brought(client, ledger, self._delete_through(session))
                await session.delivery.drain()
                self._stats.leftovers_removed += counts.keys_chosen
            elif keeps:
                await keep_existing(client, ledger)

    async def after_snapshot(self, session: TargetSession, offset: int) -> None:
        """Remove what earlier attempts brought and this snapshot, whose stream begins behind `offset`, does not have.

        Raises:
            TargetUnreachable, TargetAuthError, LedgerError, and what ended the target's link.
        """
        ledger = self._ledger
        if ledger.may_have_leftovers or (ledger.directory is None and session.had_checkpoint):
            await self._clean(session)
        ledger.end_snapshot(offset)

    async def _clean(self, session: TargetSession) -> None:
        ledger = self._ledger
        await sort_names(ledger)
        if ledger.directory is None:
            log.warning(
                "leftovers.not_removed",
                why="no list of the task's keys is kept without a spool folder",
                means="keys deleted on the source since the first snapshot stay on the target",
                remedy="start with an empty target, or give --spool-dir",
            )
            return
        if ledger.is_trusted:
            async for client, _ in each_server(session):
                counts = await remove_leftovers(client, ledger, self._delete_through(session))
                await session.delivery.drain()
                self._stats.leftovers_removed += counts.keys_chosen
            return
        unknown: list[tuple[int, bytes]] = []
        number = 0
        async for client, place in each_server(session):

            def may_be_ours(db: int, key: bytes, place: Place = place) -> bool:
                return place.is_due(key) and self._has_key(db, key)

            number += await count_unknown(client, ledger, may_be_ours, unknown)
        write_report(ledger.directory / REPORT_NAME, unknown)
        if number:
            log.warning(
                "leftovers.not_removed",
                keys=number,
                why="the list of the task's keys is that of another run: they may be the target's own",
                names=str(ledger.directory / REPORT_NAME),
                remedy="delete those that are not wanted by hand",
            )

    def _delete_through(self, session: TargetSession) -> Delete:
        async def delete(db: int, keys: list[bytes]) -> None:
            commands = [encode("SELECT", db), encode("UNLINK", *keys), encode("SELECT", 0)]
            await session.delivery.send(session.guarded(commands), 0.0)

        return delete

    def close(self, *, is_complete: bool) -> None:
        """Keep the list for the next run, or drop it: the task is over."""
        if self._owners is not None:
            self._owners.close(is_complete=is_complete)
        if is_complete:
            self._ledger.remove()
        else:
            self._ledger.close()
