"""When expiries are put right: one step at a time, between the blocks of the stream."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import structlog

from engine.codec.block import Block
from engine.codec.command_keys import keys_of
from engine.codec.stream import StreamTranscoder
from engine.errors import SourceNotReady, TargetRejected
from engine.replay.answer_size import AnswerSize
from engine.replay.brought import Brought
from engine.replay.calm import Calm
from engine.replay.margin import Margin
from engine.replay.owed import Key, OwedExpiries, OwedFile
from engine.replay.settlement import KEYS_AT_ONCE, Correction
from engine.stats import LineStats

log = structlog.get_logger("engine.replay")

Batch = tuple[list[Key], list[Key]]

WHOLES_AT_ONCE = 100
FULL_BLOCKS = 4  # so many on their way are much
ASK_AGAIN_SECONDS = 1.0  # a source whose control connection does not answer


class Search(Protocol):
    """Looks for keys with a margin on the target (margined_keys.py). seen: keys looked at."""

    @property
    def seen(self) -> int:
        """So far."""

    def batches(self) -> AsyncIterator[Batch]:
        """Batches of (keys, hashes)."""

    async def close(self) -> None:
        """Close the connections."""


class Confirming(Protocol):
    """Who takes corrections to the target (delivery.py, cluster_delivery.py)."""

    @property
    def unconfirmed(self) -> list[Block]:
        """Blocks that it does not have, apart from slots that wait."""

    @property
    def is_holding(self) -> bool:
        """Whether a slot waits."""


class Questions(Protocol):
    """Whoever tells the true expiries: the source (settlement.py), or the margin by itself (own_margin.py).

    refused: why it does not, empty if it does.
    """

    refused: str

    async def ask(
        self, keys: Sequence[Key], wholes: Sequence[Key], *, removes_missing: bool = True
    ) -> Correction | None:
        """As Settlement.ask."""

    async def close(self) -> None:
        """Close the connections."""


class Settling:
    """Makes corrections, one after the other, until nothing is owed.

    First the source is asked, then the stream goes on up to the offset of the answer and no further
    (`transcoder.pause_at`), then the correction goes out, then the rest. search: looks for keys on the target whose
    expiry lies at or behind a moment; with the hashes or without. brought: which of them are the task's own.
    wake: has the next step tried when one was put off.
    """

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        transcoder: StreamTranscoder,
        settlement: Questions,
        owed: OwedExpiries,
        file: OwedFile,
        *,
        search: Callable[[int, bool], Search],
        brought: Brought,
        stats: LineStats,
        margin: Margin,
        wake: Callable[[], None],
    ) -> None:
        self._margin = margin
        self._calm = Calm(wake)
        self._transcoder = transcoder
        self._settlement = settlement
        self._owed = owed
        self._file = file
        self._search = search
        self._brought = brought
        self._stats = stats
        self._asked: Batch = ([], [])
        self._unconfirmed: deque[tuple[Block, Batch]] = deque()  # corrections on their way
        self._found: Batch = ([], [])  # on the target, not asked about yet
        self._was_found = False  # what is asked about now, not noted
        self._searching: Search | None = None
        self._pages: AsyncIterator[Batch] | None = None
        self._names: Iterator[Key] | None = None
        self._swaps = 0
        self._ask_at = 0.0
        self._size = AnswerSize(most=WHOLES_AT_ONCE)  # of wholes
        self.correction: Correction | None = None
        transcoder.add_late_keys(owed.keys, owed.wholes)
        transcoder.is_settling = owed.scans_keys or owed.scans_hashes or owed.reads_file
        transcoder.verifies_keys = owed.is_exact and not margin.is_own

    @property
    def is_owing(self) -> bool:
        """Whether the target holds an expiry that is not the source's."""
        transcoder = self._transcoder
        return bool(
            self._asked[0]
            or self._asked[1]
            or self._unconfirmed
            or self._found[0]
            or self._found[1]
            or transcoder.late_keys
            or transcoder.late_hashes
            or transcoder.late_keys_lost
            or transcoder.late_hashes_lost
            or self._owed.reads_file
            or self._owed.scans_keys
            or self._owed.scans_hashes
        )

    @property
    def looks_at_target(self) -> bool:
        """Whether the next step looks for keys there, or asks it for their times."""
        transcoder, owed = self._transcoder, self._owed
        is_named = transcoder.late_keys or transcoder.late_hashes or any(self._found)
        is_search = (owed.scans_keys or owed.scans_hashes) and not is_named
        return self.is_owing and (self._margin.is_own or is_search)

    def is_put_off(self, blocks_inflight: int) -> bool:
        """Whether something is owed and it is not the time to ask about it."""
        is_full = blocks_inflight >= FULL_BLOCKS
        return self.is_owing and self._calm.is_put_off(is_full=is_full)

    def note_behind(self) -> None:
        """The line is behind: questions are put off until it is calm, or for a while."""
        if not self._margin.is_own:
            self._calm.note_behind()

    def note(self) -> None:
        """Put on disk what the transcoder has noted; call before a block of it is sent."""
        if self._transcoder.noted:
            self._file.add(self._transcoder.noted)
            self._transcoder.noted.clear()

    def note_missing(self, db: int, command: list[bytes]) -> None:
        """A key that a command of the stream needs has expired on the target too early: fetch it, and where it went."""
        log.warning(
            "key.missing_on_target",
            command=command[0].decode("ascii", "replace"),
            key=repr(command[1][:80]) if len(command) > 1 else "",
            db=db,
            means="it expired there too early, or somebody deleted it; it is fetched from the source again",
        )
        places = keys_of(command)
        names = command[1:2] if places is None else [command[it.index] for it in places]
        self.note_in_doubt({(db, name) for name in names})

    def note_in_doubt(self, keys: set[Key]) -> None:
        """Keys that may be gone from the target although the source has them: fetch them."""
        if keys:
            self.note_behind()
            self._transcoder.add_late_keys(set(), keys)
            self._file.add([(True, db, key) for db, key in keys])

    def settled(self) -> None:
        """Nothing is owed any more."""
        self._file.clear()
        self.note_exact()

    def note_exact(self) -> None:
        """Expiries reach the target without a margin from here on: one may be over there before its renewal comes."""
        self._owed.is_exact = True
        self._transcoder.verifies_keys = True

    def forget_noted(self) -> None:
        """Nothing is owed: what stands in the file was put right, or its block was never sent."""
        if not self._file.is_empty:
            self._file.clear()

    def save(self) -> None:
        """Note in `owed` what the next stay at the target has to do."""
        transcoder, owed = self._transcoder, self._owed
        batches = [self._asked, self._found, *(it for _, it in self._unconfirmed)]
        owed.keys = transcoder.late_keys.union(*(keys for keys, _ in batches))
        owed.wholes = transcoder.late_hashes.union(*(wholes for _, wholes in batches))
        if transcoder.swaps and self.is_owing:
            # A SWAPDB that the target has not got yet is read again: where the keys stand is not certain.
            owed.scans_keys = owed.scans_hashes = True
        self._note_lost()

    async def ask(self) -> bool:
        """Ask the source about the next few keys; False if it cannot be asked now or there is nothing to ask.

        Raises:
            TargetLinkLost, TargetNotReady: keys were looked for on the target and it does not answer.
        """
        if time.monotonic() < self._ask_at:
            return False
        self._note_lost()
        batch = await self._next_batch()
        if batch is None:
            return False
        self._asked = batch
        self._calm.note_asked()
        try:
            # A key that was found may be another's, where no list tells.
            self.correction = await self._settlement.ask(
                *batch, removes_missing=self._brought.is_known or not self._was_found
            )
        except SourceNotReady as error:
            log.debug("expiry.cannot_ask", error=str(error))
            self._put_back()
            self._size.shrink()
            self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
            return False
        if self.correction is None:
            log.error(
                "expiry.not_corrected",
                keys=len(batch[0]) + len(batch[1]),
                why=self._settlement.refused,
                means="their expiries on the target are not those of the source",
            )
            self._asked = ([], [])
            self._transcoder.release_late_keys()
            return True
        if batch[1]:
            self._size.note(self.correction.payload_bytes)
        self._transcoder.pause_at = self.correction.offset
        return True

    def is_due(self) -> bool:
        """Whether the stream has come to where the correction belongs."""
        return self.correction is not None and self._transcoder.offset >= self.correction.offset

    def sent(self, block: Block) -> None:
        """The correction is on its way, in `block`; what comes behind it in the stream acts on what it has put right."""
        self._unconfirmed.append((block, self._asked))
        self.correction = None
        self._asked = ([], [])
        self._transcoder.pause_at = -1
        self._transcoder.release_late_keys()

    @property
    def has_unconfirmed(self) -> bool:
        """Whether corrections are on their way."""
        return bool(self._unconfirmed)

    def confirm(self, delivery: Confirming) -> None:
        """Corrections that the target has are done; where a slot waits they may have to wait with it, and are asked for again."""
        unconfirmed = {id(it) for it in delivery.unconfirmed}
        while self._unconfirmed and id(self._unconfirmed[0][0]) not in unconfirmed:
            keys, wholes = self._unconfirmed.popleft()[1]
            if delivery.is_holding:
                self._transcoder.add_late_keys(set(keys), set(wholes))
            else:
                self._stats.keys_fetched_again += len(wholes)

    def forget_answer(self) -> None:
        """The stream goes on in another history than the one asked."""
        if self.correction is not None:
            self.correction = None
            self._transcoder.pause_at = -1
            self._put_back()

    async def close(self) -> None:
        """Close the connections."""
        self._calm.close()
        await self._settlement.close()
        if self._searching is not None:
            await self._searching.close()

    def _put_back(self) -> None:
        keys, hashes = self._asked
        self._asked = ([], [])
        self._transcoder.add_late_keys(set(keys), set(hashes))
        self._transcoder.release_late_keys()

    def _note_lost(self) -> None:
        if self._transcoder.late_keys_lost:
            self._transcoder.late_keys_lost = 0
            self._owed.scans_keys = self._owed.scans_hashes = True
            self._transcoder.is_settling = True
            self._pages = None  # a search that is under way has passed where they are
        if self._transcoder.late_hashes_lost:
            self._transcoder.late_hashes_lost = 0
            self._names = None
            self._transcoder.is_settling = (
                True  # where one moves is noted, as it is not known by name
            )
            self._owed.reads_file = self._file.is_kept
            if not self._file.is_kept:
                self._say_not_corrected("more keys than fit in memory, and no file to note them in")

    async def _next_batch(self) -> Batch | None:
        if self._swaps != self._transcoder.swaps and (self._pages or any(self._found)):
            # What was found stands in another database now: the search begins again.
            self._found, self._pages = ([], []), None
            self._owed.scans_keys = self._owed.scans_hashes = True
        self._was_found = False
        batch: Batch = self._transcoder.take_late(KEYS_AT_ONCE, self._size.at_once)
        while not any(batch):
            self._was_found = True
            if any(self._found):
                keys, wholes = self._found
                most = self._size.at_once
                batch = keys[:KEYS_AT_ONCE], wholes[:most]
                self._found = keys[KEYS_AT_ONCE:], wholes[most:]
                break
            if self._owed.reads_file:
                self._was_found = False
                batch = [], self._next_names()
            elif self._owed.scans_keys or self._owed.scans_hashes:
                await self._find_more()
            else:
                return None
        keys, wholes = batch
        # Of a key that the target had before only the expiry is ours to set.
        kept = {it for it in wholes if self._brought.is_kept(*it)}
        return [*keys, *kept], [it for it in wholes if it not in kept]

    def _next_names(self) -> list[Key]:
        """Some of those that memory had no room for; none at the end of the file."""
        if self._names is None:
            self._names = self._file.wholes()
        names = list(dict.fromkeys(islice(self._names, self._size.at_once)))
        if not names:
            self._names = None
            self._owed.reads_file = False
            self._transcoder.is_settling = self._owed.scans_keys or self._owed.scans_hashes
        return names

    async def _find_more(self) -> None:
        if self._pages is None:
            await self._start_search()
        assert self._pages is not None
        try:
            page = await anext(self._pages, None)
        except TargetRejected as error:
            self._say_not_corrected(str(error))
            page = None
        if page is None:
            await self._end_search()
        else:
            for found, them in zip(self._found, page, strict=True):
                found += [it for it in them if self._brought.is_brought(*it)]

    def _say_not_corrected(self, why: str) -> None:
        log.error(
            "expiry.not_corrected",
            why=why,
            means="expiries on the target may be up to 30 days later than the source's",
        )

    async def _start_search(self) -> None:
        if self._searching is not None:
            await self._searching.close()
        self._swaps = self._transcoder.swaps
        least_ms = self._margin.least_ms(self._transcoder.margin_since_ms)
        self._searching = self._search(least_ms, self._owed.scans_hashes)
        self._pages = self._searching.batches()

    async def _end_search(self) -> None:
        assert self._searching is not None
        log.info("expiry.searched", keys=self._searching.seen)
        await self._searching.close()
        self._searching = self._pages = None
        self._owed.scans_keys = self._owed.scans_hashes = False
        self._transcoder.is_settling = self._owed.reads_file
