"""Which database of the source has brought a name, where several go to one of the target. See codec/name_owners.py.

Kept like the list of the names brought (ledger.py), of the names at the source, a set for each database of the source.
"""

from __future__ import annotations

from pathlib import Path

from engine.codec.key_set import KeySet
from engine.codec.name_owners import NameOwners
from engine.errors import ConfigError, TargetRefused
from engine.ledger.ledger import Ledger
from engine.selection import Selection


class Owners:
    """names: for the codec; stays the same through `renew`."""

    def __init__(self, ledger: Ledger, selection: Selection) -> None:
        self._ledger = ledger
        self._selection = selection
        self.names = NameOwners(self, ledger.seed)

    @classmethod
    def open(cls, directory: Path | None, selection: Selection) -> Owners | None:
        """Those in `directory`; None where no two databases share one.

        Raises:
            LedgerError: the directory cannot be used. ConfigError: there is none.
        """
        if not selection.folds:
            return None
        if directory is None:
            raise ConfigError(
                "several databases into one cannot be told apart without a folder for the names of their keys",
                hint="give --spool-dir",
            )
        return cls(Ledger.open(directory), selection)

    def sets_for(self, db: int) -> tuple[KeySet, list[KeySet], list[tuple[int, KeySet]]]:
        """Where names of `db` go, what else has some, and the sets of the databases that go where it goes."""
        newest = self._ledger.brought_set(db)
        target = self._selection.target_db(db)
        others = [
            (other, names)
            for other in self._ledger.dbs
            if other != db and self._selection.target_db(other) == target
            for names in self._ledger.brought_sets(other)
        ]
        return newest, self._ledger.brought_sets(db)[1:], others

    def take_over(self, *, is_new: bool, is_ours: bool) -> None:
        """The target was found to have nothing of the task (is_new), or what this list is about (is_ours), or something else."""
        if is_new:
            self.renew()
        elif not is_ours:
            self._ledger.renew(is_complete=False)
            self._start_again()

    def renew(self) -> None:
        """A snapshot begins: nobody has brought anything."""
        self._ledger.renew()
        self._start_again()

    def _start_again(self) -> None:
        self.names.start_again(self._ledger.seed)

    def require_known(self) -> None:
        """The stream is about to be followed.

        Raises:
            TargetRefused: it is not known whose the keys on the target are.
        """
        if not self._ledger.is_trusted:
            raise TargetRefused(
                "no list on this machine tells which database of the source each key on the target came from",
                hint="run it where it ran before (same --spool-dir); or start anew: redis-ferry tasks forget, an empty "
                "target, and the same command",
            )

    def close(self, *, is_complete: bool) -> None:
        """Keep the list for the next run, or drop it: the task is over."""
        if is_complete:
            self._ledger.remove()
        else:
            self._ledger.close()
