"""What becomes of a command of the stream that names keys on both sides of a selection, or another database.

What a source replicates has had its effect there: a member moved was there, a key renamed was, too. So where only one
side of a command is selected, what it did there often is another command. Where it is not, `CannotBridge` says why. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, Protocol

from engine.codec.command_keys import Access, KeyAt, keys_of
from engine.codec.command_support import CannotBridge, Words
from engine.codec.key_filter import KeyFilter
from engine.selection import Selection

_OPTIONS_WITH_KEYS = frozenset({b"BY", b"GET"})


class Owners(Protocol):
    """Which database of the source a name belongs to, where several go to the same one of the target."""

    def owner_of(self, db: int, name: bytes) -> int | None:
        """The database among those that share one with `db`; None: nobody has brought the name."""

    def claim_name(self, db: int, name: bytes) -> int:
        """Make it the one of `db`; -1, or the database that has it."""


class SelectedCommands:
    """Decides for one task. owners: None where no two databases share one of the target."""

    def __init__(
        self, selection: Selection, key_filter: KeyFilter, owners: Owners | None = None
    ) -> None:
        self._selection = selection
        self._filter = key_filter
        self._owners = owners

    def decide(self, words: Words, db: int) -> Words | None:
        """The command that does the same in the target's database for `db`; None: it is left out.

        Raises:
            CannotBridge: nothing does.
        """
        rule = self._RULES.get(words[0].upper())
        if rule is not None:
            return rule(self, words, db)
        places = keys_of(words)
        if places is not None and not places:
            return words  # no keys, no database
        if self._selection.target_db(db) is None:
            return None
        if places is None:
            if self._selection.is_about_keys or self._owners is not None:
                raise CannotBridge("where its keys stand is not known")
            return words
        return self._by_keys(words, places, db)

    def swapdb(self, words: Words) -> Words | None:
        """The same for SWAPDB."""
        selection = self._selection
        if not all(it.isdigit() and len(it) < 10 for it in words[1:3]) or len(words) != 3:
            raise CannotBridge("its form is not known")
        first, second = (selection.target_db(int(it)) for it in words[1:3])
        if first is None and second is None:
            return None
        if first is None or second is None:
            raise CannotBridge("one of the databases is left out")
        if selection.is_about_keys:
            raise CannotBridge("of the databases only some keys are taken along")
        if any(len(selection.source_dbs(it)) > 1 for it in (first, second)):
            raise CannotBridge("the target has several databases of the source in one of them")
        return [words[0], b"%d" % first, b"%d" % second]

    # ---- keys

    def _takes(self, name: bytes) -> bool:
        return self._filter.takes_name(name)

    def _named(self, name: bytes) -> bytes:
        return self._selection.target_name(name)

    def _claim(self, db: int, name: bytes) -> None:
        """The command writes the key: nobody else's may be there."""
        if self._owners is not None and (other := self._owners.claim_name(db, name)) >= 0:
            raise CannotBridge(
                f"database {other} has brought a key of this name to the same database of the target"
            )

    def _owns(self, db: int, name: bytes) -> bool:
        """Whether the key may be there at all, so that it is not another database's."""
        return self._owners is None or self._owners.owner_of(db, name) == db

    def _by_keys(self, words: Words, places: Sequence[KeyAt], db: int) -> Words | None:
        inside = [it for it in places if self._takes(words[it.index])]
        if all(it.access is Access.READS for it in inside):
            return None  # nothing that is selected changes
        if len(inside) < len(places):
            raise CannotBridge("it joins keys that are taken along with keys that are not")
        for it in inside:
            if it.access is Access.READS:
                self._refuse_foreign(db, words[it.index])
        for it in inside:
            if it.access is not Access.READS:
                self._claim(db, words[it.index])
        return self._mapped(words, [it.index for it in inside])

    def _refuse_foreign(self, db: int, name: bytes) -> None:
        """A key that is read: where the source has none the target may have another database's."""
        if self._owners is not None and self._owners.owner_of(db, name) not in {None, db}:
            raise CannotBridge(f"it reads {name[:80]!r}, which is another database's at the target")

    def _mapped(self, words: Words, indexes: Sequence[int]) -> Words:
        written = list(words)
        for index in indexes:
            written[index] = self._named(words[index])
        return written

    def _sides(self, words: Words, db: int) -> tuple[bool, bool]:
        """Of a command that has its first two keys: whether they are taken along."""
        if self._selection.target_db(db) is None or len(words) < 3:
            return False, False
        return self._takes(words[1]), self._takes(words[2])

    # ---- commands

    def _each(self, words: Words, db: int) -> Words | None:
        """DEL, UNLINK, TOUCH: each key by itself."""
        if self._selection.target_db(db) is None:
            return None
        taken = [it for it in words[1:] if self._takes(it)]
        if len(words) == 2 and taken:
            self._claim(db, words[1])
        kept = [self._named(it) for it in taken if self._owns(db, it)]
        return [words[0], *kept] if kept else None

    def _pairs(self, words: Words, db: int) -> Words | None:
        """MSET, MSETNX, which is replicated where it has set all."""
        if self._selection.target_db(db) is None:
            return None
        written: Words = []
        for key, value in zip(words[1::2], words[2::2], strict=False):
            if self._takes(key):
                self._claim(db, key)
                written += [self._named(key), value]
        return [b"MSET", *written] if written else None

    def _counted_pairs(self, words: Words, db: int) -> Words | None:
        """MSETEX count key value … options."""
        if self._selection.target_db(db) is None:
            return None
        if len(words) < 2 or not words[1].isdigit() or 2 + 2 * int(words[1][:9]) > len(words):
            raise CannotBridge("its form is not known")
        end = 2 + 2 * int(words[1])
        written: Words = []
        for key, value in zip(words[2:end:2], words[3:end:2], strict=True):
            if self._takes(key):
                self._claim(db, key)
                written += [self._named(key), value]
        count = b"%d" % (len(written) // 2)
        return [words[0], count, *written, *words[end:]] if written else None

    def _rename(self, words: Words, db: int) -> Words | None:
        source, destination = self._sides(words, db)
        if source and destination:
            self._claim(db, words[2])
            return self._mapped(words, (1, 2))
        if source:
            return [b"DEL", self._named(words[1])]
        if destination:
            raise CannotBridge("it gives a key that is left out a name that is taken along")
        return None

    def _copy(self, words: Words, db: int) -> Words | None:
        other = db
        options = words[3:]
        for index, word in enumerate(options):
            if word.upper() == b"DB" and index + 1 < len(options):
                if not options[index + 1].isdigit():
                    raise CannotBridge("its form is not known")
                other = int(options[index + 1][:9])
                options = options[:index] + options[index + 2 :]
                break
        here, there = self._selection.target_db(db), self._selection.target_db(other)
        if len(words) < 3 or there is None or not self._takes(words[2]):
            return None
        if here is None or not self._takes(words[1]):
            raise CannotBridge("it copies a key that is left out to one that is taken along")
        self._claim(other, words[2])
        where = [] if here == there else [b"DB", b"%d" % there]
        return [words[0], self._named(words[1]), self._named(words[2]), *where, *options]

    def _move(self, words: Words, db: int) -> Words | None:
        if len(words) != 3 or not words[2].isdigit():
            raise CannotBridge("its form is not known")
        other = int(words[2][:9])
        here, there = self._selection.target_db(db), self._selection.target_db(other)
        if not self._takes(words[1]) or (here is None and there is None):
            return None
        if here is None:
            raise CannotBridge("it moves a key from a database that is left out to one that is not")
        if there is None:
            return [b"DEL", self._named(words[1])]
        if here == there:
            raise CannotBridge("both databases go to the same one of the target")
        self._claim(other, words[1])
        return [words[0], self._named(words[1]), b"%d" % there]

    def _smove(self, words: Words, db: int) -> Words | None:
        source, destination = self._sides(words, db)
        if destination:
            self._claim(db, words[2])
        if source and destination:
            return self._mapped(words, (1, 2))
        if source:
            return [b"SREM", self._named(words[1]), *words[3:4]]
        return [b"SADD", self._named(words[2]), *words[3:4]] if destination else None

    def _list_move(self, words: Words, db: int) -> Words | None:
        """RPOPLPUSH, LMOVE and their blocking kin."""
        source, destination = self._sides(words, db)
        if source and destination:
            self._claim(db, words[2])
            return self._mapped(words, (1, 2))
        if source:
            side = words[3].upper() if b"LMOVE" in words[0].upper() and len(words) > 3 else b"RIGHT"
            return [b"LPOP" if side == b"LEFT" else b"RPOP", self._named(words[1])]
        if destination:
            raise CannotBridge("what it takes from a list that is left out is not known")
        return None

    def _script(self, words: Words, db: int) -> Words | None:
        if self._selection.target_db(db) is None:
            return None
        if self._selection.is_about_keys or self._owners is not None:
            raise CannotBridge("a script may write keys that it does not name")
        return words

    def _sort(self, words: Words, db: int) -> Words | None:
        """SORT … STORE: BY and GET name other keys by patterns."""
        if self._selection.target_db(db) is None:
            return None
        places = keys_of(words) or []
        stored = [it for it in places if it.access is not Access.READS]
        if not any(self._takes(words[it.index]) for it in stored):
            return None
        if self._selection.is_about_keys or self._owners is not None:
            for option, pattern in pairwise(words[2:]):
                if option.upper() in _OPTIONS_WITH_KEYS and b"*" in pattern:
                    raise CannotBridge("it reads keys by a pattern")
        return self._by_keys(words, places, db)

    def _channel(self, words: Words, db: int) -> Words | None:
        """SPUBLISH: what stands in a key's place is a channel."""
        del db
        return words

    _RULES: ClassVar[dict[bytes, Callable[[SelectedCommands, Words, int], Words | None]]] = {
        **dict.fromkeys((b"DEL", b"UNLINK", b"TOUCH"), _each),
        **dict.fromkeys((b"MSET", b"MSETNX"), _pairs),
        **dict.fromkeys((b"RENAME", b"RENAMENX"), _rename),
        **dict.fromkeys((b"RPOPLPUSH", b"BRPOPLPUSH", b"LMOVE", b"BLMOVE"), _list_move),
        **dict.fromkeys(
            (b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"), _script
        ),
        b"MSETEX": _counted_pairs,
        b"COPY": _copy,
        b"MOVE": _move,
        b"SMOVE": _smove,
        b"SORT": _sort,
        b"SPUBLISH": _channel,
        b"TRIMSLOTS": lambda _, words, __: words,  # the transcoder stops at it
    }


# Of these the places of the keys are simple, and yet they are not all that matters.
LOOKED_AT = frozenset({"MOVE", "SPUBLISH", "SELECT", "SWAPDB", "FLUSHDB", "FLUSHALL"})
