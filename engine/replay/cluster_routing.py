"""Commands that are not of one slot by the table: split, sent to all, left to the source's word, or a reason to stop."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from engine.checkpoint.cluster_claim import ClusterClaim
from engine.checkpoint.slot_checkpoints import EVERYWHERE
from engine.codec.command_keys import KeyAt
from engine.codec.command_text import encode
from engine.codec.cross_slot import Piece, Pieces, is_for_a_server_alone, pieces_of
from engine.codec.slot_router import SlotRouter
from engine.codec.slots import key_slot
from engine.errors import TargetRejected
from engine.replay.cluster_everywhere import Everywhere, TellAll
from engine.replay.cross_slot_list import RESOLVED, SPLIT, CrossSlotList
from engine.replay.keys_in_doubt import KeysInDoubt
from engine.replay.told_keys import ToldKeys
from engine.settings import CrossSlotPolicy, TaskSettings
from engine.stats import LineStats

log = structlog.get_logger("engine.replay")

_SCRIPTS = frozenset({b"EVAL", b"EVALSHA"})
# Of ours: behind them a key is what it is at the source.
_BRINGS_WHOLE = frozenset({b"RESTORE", b"DEL", b"UNLINK", b"SET"})


class ClusterRouting:
    """What to do with the router's events.

    in_doubt: keys that commands over several slots have written, and whose values only the source knows.
    """

    def __init__(
        self,
        router: SlotRouter,
        claim: ClusterClaim,
        stats: LineStats,
        settings: TaskSettings,
        tell_all: TellAll,
    ) -> None:
        self._router = router
        self._claim = claim
        self._stats = stats
        self._policy = settings.on_cross_slot
        self._told_keys = ToldKeys(settings.target_link)
        self._everywhere = Everywhere(
            tell_all,
            settings.target_link,
            stats,
            on_conflict=settings.on_conflict,
            reached=max(claim.slots.everywhere, *claim.slots.applied),
        )
        self.in_doubt = KeysInDoubt(router, stats, claim.slots.in_doubt)
        self._list = CrossSlotList(settings.spool.directory, stats)
        # Of the router, as far as they are counted.
        self._transactions = 0
        self._skipped = 0

    def forget_marks(self) -> None:
        """A snapshot begins, maybe of another history: what was said of keys and places in the stream holds no more."""
        self.in_doubt.clear()
        self._router.put(0, encode("HDEL", self._router.checkpoint_key(0), EVERYWHERE))
        self._everywhere.reached = -1

    def end_block(self, offset: int) -> None:
        """Count and list what has become of the block."""
        router = self._router
        skipped = router.skipped - self._skipped
        transactions = router.split_transactions - self._transactions
        self._skipped, self._transactions = router.skipped, router.split_transactions
        self._stats.slot_commands_skipped += skipped
        # Of which a part is on the target: an earlier run has counted them.
        if transactions and not skipped:
            self._list.note("MULTI", (), offset, SPLIT, count=transactions)
        self._list.end_block(offset)

    async def take_event(self, offset: int) -> None:
        """Put the commands of the router's event where they belong.

        Raises:
            TargetRejected: it cannot be applied to a cluster; TargetNotReady: the target does not tell where its keys are.
        """
        arguments = self._router.event
        assert arguments is not None
        name = arguments[0].upper()
        if name == b"PUBLISH" and len(arguments) > 1:
            # The cluster's bus carries it on; with the slot of its name a channel keeps its order, and is sent once.
            self._put(key_slot(arguments[1]), encode(*arguments), offset)
            return
        if name in {b"FUNCTION", b"SCRIPT"}:
            await self._send_everywhere(name, arguments, offset)
            return
        if name in _SCRIPTS:
            arguments = await self._everywhere.eval(arguments, offset)
        if _is_of_several_databases(name, arguments):
            raise self._refuse(arguments, offset, _databases(name, arguments))
        keys = await self._told_keys.keys_of(arguments, self._claim.endpoints[0])
        if not keys:
            reason = _NO_SCRIPT_KEY if name in _SCRIPTS else _NO_KEY
            raise self._refuse(arguments, offset, reason)
        self._take_keyed(name, arguments, keys, offset)

    def _take_keyed(
        self, name: bytes, arguments: list[bytes], keys: list[KeyAt], offset: int
    ) -> None:
        names = [arguments[it.index] for it in keys]
        slots = {key_slot(it) for it in names}
        is_wide = len(slots) > 1 or is_for_a_server_alone(arguments)
        is_touching = any(it in self.in_doubt for it in names)
        if not is_wide and not is_touching:
            self._put(slots.pop(), encode(*arguments), offset)
            return
        pieces = pieces_of(arguments, keys)
        if offset < 0:
            self._take_ours(name, arguments, names, pieces.exact)
            return
        if is_wide:
            self._note(arguments, names, pieces, offset)
        self._put_pieces([it for it in pieces.exact if it.key not in self.in_doubt], offset)
        for piece in pieces.exact:
            if piece.is_removal and piece.key in self.in_doubt and self._is_news(piece.key, offset):
                self.in_doubt.resolve(piece.key, piece.command)
        for key in pieces.unknown:
            if self._is_news(key, offset):
                self.in_doubt.add(key, offset)

    def _take_ours(
        self, name: bytes, arguments: list[bytes], names: list[bytes], exact: Sequence[Piece]
    ) -> None:
        """Corrections (replay/settling.py, resolving.py) and removals of ours, true for this place in the stream."""
        if name not in _BRINGS_WHOLE:
            if not any(it in self.in_doubt for it in names):
                self._put_pieces(exact, -1)
            return  # an expiry: it comes with the value
        pieces = exact or [Piece(names[0], encode(*arguments))]
        self._put_pieces([it for it in pieces if it.key not in self.in_doubt], -1)
        for piece in pieces:
            if piece.key in self.in_doubt:
                self.in_doubt.resolve(piece.key, piece.command)

    def _put_pieces(self, pieces: Sequence[Piece], offset: int) -> None:
        for piece in pieces:
            self._put(key_slot(piece.key), piece.command, offset)

    def _note(self, arguments: list[bytes], keys: list[bytes], pieces: Pieces, offset: int) -> None:
        """Note a command over several slots, or refuse it. What can be split without the source's help always is.

        One that the target has a part of was noted by an earlier run or stay.
        """
        written = (*(it.key for it in pieces.exact), *pieces.unknown)
        news = [it for it in written if self._is_news(it, offset)]
        if pieces.unknown and news:
            if self._policy is CrossSlotPolicy.STOP:
                raise self._refuse(arguments, offset, _SEVERAL_SLOTS, keys=keys)
            if why := self.in_doubt.refused:
                raise self._refuse(arguments, offset, _SEVERAL_SLOTS, keys=keys, why=why)
        if len(news) == len(written):
            name = arguments[0].upper().decode("ascii", "replace")
            self._list.note(name, keys, offset, RESOLVED if pieces.unknown else SPLIT)

    def _refuse(
        self,
        arguments: Sequence[bytes],
        offset: int,
        reason: tuple[str, str],
        *,
        keys: Sequence[bytes] | None = None,
        why: str = "",
    ) -> TargetRejected:
        """List the command that ends the task, and make the error. keys: those it names; None: they are not known."""
        error = _refusal(arguments, offset, reason, why=why)
        named = arguments[1:2] if keys is None else keys
        self._list.stop(error.command, named, offset)
        return error

    async def _send_everywhere(self, name: bytes, arguments: list[bytes], offset: int) -> None:
        if name == b"FUNCTION":
            await self._everywhere.function(arguments, offset)
        else:
            await self._everywhere.script(arguments, offset)
        if offset >= 0:
            # So that the place is in a checkpoint even where nothing else follows.
            note = encode("HSET", self._router.checkpoint_key(0), EVERYWHERE, offset)
            self._put(0, note, offset)

    def _put(self, slot: int, command: bytes, offset: int) -> None:
        if self._has_not(slot, offset):
            self._router.put(slot, command)
        else:
            self._router.skipped += 1

    def _is_news(self, key: bytes, offset: int) -> bool:
        return self._has_not(key_slot(key), offset)

    def _has_not(self, slot: int, offset: int) -> bool:
        skip = self._router.skip
        return skip is None or offset < 0 or offset > skip[slot]


def _is_of_several_databases(name: bytes, arguments: Sequence[bytes]) -> bool:
    if name == b"COPY":
        options = [it.upper() for it in arguments[3:]]
        return (
            b"DB" in options and options[-1] != b"DB" and options[options.index(b"DB") + 1] != b"0"
        )
    return name in {b"SELECT", b"SWAPDB", b"MOVE"}


_SEVERAL_SLOTS = (
    "names keys of several slots, and what it makes of them only the source knows",
    "let them be fetched from there (--on-cross-slot resolve), give such keys a common hash tag at the source, or migrate "
    "to a standalone server",
)


def _databases(name: bytes, arguments: Sequence[bytes]) -> tuple[str, str]:
    db = arguments[1].decode("ascii", "replace") if name == b"SELECT" else "…"
    return (
        "is about another database than 0" if name == b"SELECT" else "is about several databases",
        "a cluster has database 0 only: start anew under another --task-id and take one along, --databases 0, or several "
        f"into one, --db-map {db}:0, if no name is in two of them; or migrate to a standalone server",
    )


_NO_KEY = ("has no key that tells its slot", "migrate to a standalone server")
_NO_SCRIPT_KEY = (
    "is a script that names no keys, so nobody can tell which slots it writes to",
    "name the script's keys, let the source replicate what scripts do (lua-replicate-commands yes, Redis 5 and newer), or "
    "migrate to a standalone server",
)


def _refusal(
    arguments: Sequence[bytes], offset: int, reason: tuple[str, str], *, why: str = ""
) -> TargetRejected:
    name = arguments[0].decode("ascii", "replace").upper()
    key = arguments[1] if len(arguments) > 1 else b""
    what, hint = reason
    if why:
        hint = f"permit the source's user to tell them (OPERATIONS.md, secure): {why}"
    return TargetRejected(
        f"{name} on key {key[:80]!r} at offset {offset} of the source {what}: a cluster can't take it",
        command=name,
        key=key,
        reply="CROSSSLOT",
        offset=offset,
        hint=hint,
    )
