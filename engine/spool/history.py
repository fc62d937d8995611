"""Which replid names which part of the stream that the spool holds."""

from __future__ import annotations

from dataclasses import dataclass

from engine.position import Position
from engine.spool.segment import MAX_HISTORIES


@dataclass(frozen=True, slots=True)
class _Begin:
    replid: str
    since: int
    generation: int


class History:
    """The places at which a link began to deliver, oldest first.

    A promoted replica goes on with the bytes of its primary under a replid of its own (PSYNC2): up to the
    offset of the switch, inclusive, the old replid is valid, from there on the new one.
    """

    def __init__(self) -> None:
        self._begins: list[_Begin] = []

    def start(self, position: Position, generation: int) -> None:
        """Forget all and begin at `position`."""
        self._begins = [_Begin(position.replid, position.offset, generation)]

    def go_on(self, position: Position, generation: int) -> None:
        """Another link delivers what follows `position`."""
        last = self._begins[-1]
        is_same = (last.replid, last.since) == (position.replid, position.offset)
        if is_same and len(self._begins) > 1:  # nothing came with that one
            self._begins.pop()
        self._begins.append(_Begin(position.replid, position.offset, generation))

    def adopt(self, histories: tuple[tuple[str, int], ...], generation: int) -> None:
        """Take what a segment's header says."""
        self._begins = [_Begin(replid, since, generation) for replid, since in histories]

    def clear(self) -> None:
        """Forget all."""
        self._begins = []

    @property
    def first_generation(self) -> int:
        """Generation of the oldest bytes, and of the snapshot before them."""
        return self._begins[0].generation

    @property
    def replid(self) -> str:
        """The newest."""
        return self._begins[-1].replid

    def replid_at(self, offset: int) -> str:
        """The replid that a position at `offset` carries: the newer one at the switch itself."""
        return self._begin_at(offset).replid

    def generation_at(self, offset: int) -> int:
        """Generation of the bytes behind `offset`."""
        return self._begin_at(offset).generation

    def _begin_at(self, offset: int) -> _Begin:
        for begin in reversed(self._begins):
            if begin.since <= offset:
                return begin
        return self._begins[0]

    def is_valid(self, position: Position) -> bool:
        """Whether the history of `position` is the one held at its offset.

        A source older than PSYNC has no replid, so nothing says that two of its histories are one.
        """
        return bool(position.replid) and position.replid in valid_replids(
            self._as_pairs(self._begins), position.offset
        )

    def known_to(self, generation: int) -> tuple[tuple[str, int], ...]:
        """The (replid, since) pairs that bytes of `generation` came under, as a segment's header has them.

        Not more than fit there: after that many promotions the oldest bytes have lost their name.
        """
        known = [it for it in self._begins if it.generation <= generation]
        return self._as_pairs(known)[-MAX_HISTORIES:]

    def _as_pairs(self, begins: list[_Begin]) -> tuple[tuple[str, int], ...]:
        pairs: list[tuple[str, int]] = []
        for begin in begins:
            if not pairs or pairs[-1][0] != begin.replid:
                pairs.append((begin.replid, begin.since))
        return tuple(pairs)

    def forget_before(self, offset: int) -> None:
        """Drop what ended before `offset`."""
        while len(self._begins) > 1 and self._begins[1].since < offset:
            del self._begins[0]


def valid_replids(histories: tuple[tuple[str, int], ...], offset: int) -> set[str]:
    """The replids that name the history at `offset`: two at the offset of a switch."""
    if not histories:
        return set()
    ends = [since for _, since in histories[1:]]
    return {
        replid
        for (replid, since), end in zip(histories, [*ends, offset], strict=True)
        if since <= offset <= end
    }
