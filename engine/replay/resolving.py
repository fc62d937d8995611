"""Brings the values of keys in doubt: asked of the source at a known offset, put where the stream has come to it.

Unlike corrections of expiries this does not wait until the line has caught up: an answer belongs to a place in the stream
that is still to come, however far behind the line is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from engine.codec.command_text import encode
from engine.codec.stream import StreamTranscoder
from engine.errors import SourceNotReady, SourceRefused, UnsupportedByTarget
from engine.replay.answer_size import AnswerSize
from engine.replay.keys_in_doubt import KeysInDoubt
from engine.replay.margin import Margin
from engine.replay.refused_keys import RefusedKeys
from engine.replay.settlement import Settlement, SourceValue
from engine.replay.settling import Settling
from engine.stats import LineStats

log = structlog.get_logger("engine.replay")

MOST_AT_ONCE = 500
# What all answers that wait for their place may come to.
HELD_BYTES = 32 * 1024 * 1024
ASK_AGAIN_SECONDS = 1.0
# The stream stands while the source is asked: at most half of the time.
LEAST_PAUSE_SECONDS = 0.005
# A replica calls a key gone that its primary may just have renewed: it must say so twice, so far apart.
GONE_SECONDS = 1.0


class Resolving:
    """One stay's.

    skips_refused: leave out and list what the target cannot hold. is_replica: so is the source. wake: called when it is
    time to ask, for whoever waits for bytes of the stream.
    """

    def __init__(  # noqa: PLR0913 - keyword-only facts
        self,
        in_doubt: KeysInDoubt,
        transcoder: StreamTranscoder,
        settlement: Settlement,
        settling: Settling,
        *,
        refused_keys: RefusedKeys,
        stats: LineStats,
        skips_refused: bool,
        is_replica: bool,
        wake: Callable[[], None],
    ) -> None:
        self._in_doubt = in_doubt
        self._transcoder = transcoder
        self._settlement = settlement
        self._settling = settling
        self._refused_keys = refused_keys
        self._stats = stats
        self._skips_refused = skips_refused
        self._is_replica = is_replica
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._answers: deque[tuple[int, list[SourceValue]]] = deque()
        self._held_bytes = 0
        self._size = AnswerSize(most=MOST_AT_ONCE)
        self._ask_at = 0.0
        self._margin = Margin()
        self._gone_since: dict[bytes, float] = {}

    @property
    def has_answers(self) -> bool:
        """Whether some wait for their place in the stream; until then it goes on no further."""
        return bool(self._answers)

    def is_due(self) -> bool:
        """Whether the stream has come to the place of an answer."""
        return bool(self._answers) and self._transcoder.offset >= self._answers[0][0]

    async def ask(self) -> bool:
        """Ask about the next few keys; False if there is nothing to ask, or it cannot be asked now.

        Raises:
            SourceRefused: the source does not tell values any more.
        """
        if not self._in_doubt.has_waiting or self._held_bytes >= HELD_BYTES:
            return False
        if self._in_doubt.refused:
            raise self._refusal(self._in_doubt.refused)
        now = time.monotonic()
        if now >= self._ask_at and await self._ask(now):
            return True
        if self._timer is not None:
            self._timer.cancel()
        pause_seconds = max(self._ask_at - time.monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(pause_seconds, self._wake)
        return False

    async def _ask(self, now: float) -> bool:
        keys = self._in_doubt.take(self._size.at_once)
        try:
            found = await self._settlement.fetch([(0, key) for key in keys])
        except SourceNotReady as error:
            log.debug("cross_slot.cannot_ask", error=str(error))
            self._in_doubt.put_back(keys)
            self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
            return False
        ended = time.monotonic()
        self._ask_at = ended + max(ended - now, LEAST_PAUSE_SECONDS)
        if found is None:
            self._in_doubt.put_back(keys)
            raise self._refusal(self._settlement.refused)
        offset, values = found
        values = [it for it in values if it.is_there or self._is_gone(it.key[1], ended)]
        kept = {it.key[1] for it in values}
        self._in_doubt.put_back([it for it in keys if it not in kept])
        self._note_size(values)
        if not values:
            self._ask_at = ended + GONE_SECONDS / 4
            return False
        self._answers.append((offset, values))
        self._transcoder.pause_at = self._answers[0][0]
        return True

    @staticmethod
    def _refusal(why: str) -> SourceRefused:
        return SourceRefused(
            f"the source does not tell the values that commands over several slots have made: {why}",
            hint="permit +multi +exec +info +time +select +pttl +pexpiretime +dump to the source's user",
        )

    def _is_gone(self, key: bytes, now: float) -> bool:
        if not self._is_replica:
            return True
        since = self._gone_since.setdefault(key, now)
        if now - since < GONE_SECONDS:
            return False
        del self._gone_since[key]
        return True

    def _note_size(self, values: list[SourceValue]) -> None:
        size = _size(values)
        self._held_bytes += size
        self._size.note(size)

    def take_due(self) -> list[bytes]:
        """The commands of the answer that is due; behind them its keys are what they are at the source.

        Raises:
            UnsupportedByTarget: the target cannot hold a value.
        """
        _, values = self._answers.popleft()
        self._held_bytes -= _size(values)
        self._transcoder.pause_at = self._answers[0][0] if self._answers else -1
        commands = [
            self._command(it) for it in values if it.key[1] in self._in_doubt
        ]  # others: removed, and maybe made anew, by commands that tell it
        self._stats.keys_resolved += len(commands)
        return commands

    def forget(self) -> None:
        """The stream goes on in another history than the one asked."""
        for _, values in self._answers:
            self._in_doubt.put_back([it.key[1] for it in values])
        if self._answers:
            self._transcoder.pause_at = -1
        self._answers.clear()
        self._held_bytes = 0

    async def close(self) -> None:
        """Close the connection."""
        if self._timer is not None:
            self._timer.cancel()
        await self._settlement.close()

    def _command(self, value: SourceValue) -> bytes:
        db, key = value.key
        self._gone_since.pop(key, None)
        if value.payload is not None:
            expires_ms = value.expires_ms
            if self._transcoder.margin_ms > 0:
                # It may expire before its renewal comes, as may fields of it: looked at again, once caught up.
                self._settling.note_in_doubt({value.key})
                if 0 < expires_ms < self._margin.horizon_ms():
                    if self._transcoder.margin_since_ms == 0:
                        self._transcoder.margin_since_ms = min(expires_ms, int(time.time() * 1000))
                    expires_ms += self._margin.ms
            return encode("RESTORE", key, expires_ms, value.payload, "REPLACE", "ABSTTL")
        if value.is_there:
            if not self._skips_refused:
                raise UnsupportedByTarget(
                    f"the target cannot hold the key {key[:80]!r}, which a command over several slots has made: {value.why}",
                    hint="use a target that knows it, or leave such keys out with --on-unsupported skip",
                )
            self._refused_keys.add([(db, key, "value", value.why)])
        return encode("DEL", key)


def _size(values: list[SourceValue]) -> int:
    return sum(len(it.payload) for it in values if it.payload is not None)
