"""What of the stream does not reach the target: what the task is not to take along, and what the target cannot have."""

from __future__ import annotations

from collections import Counter

from engine.codec.foreign_stream import ForeignStreamTranscoder
from engine.codec.plan import StreamPlan
from engine.codec.stream import StreamTranscoder
from engine.codec.stream_selector import StreamSelector
from engine.errors import EngineError
from engine.replay.refused_keys import RefusedKeys

# So much of the stream may be left out before a checkpoint says so.
LEFT_OUT_BYTES = 256 * 1024


class LeftOut:
    """One stay's. selector: of a task that does not take everything along as it is."""

    def __init__(
        self,
        plan: StreamPlan,
        transcoder: StreamTranscoder,
        selector: StreamSelector | None,
        refused_keys: RefusedKeys,
    ) -> None:
        self._transcoder = transcoder
        self._selector = selector
        self._refused_keys = refused_keys
        self._support = plan.support
        self._bridged_before = refused_keys.bridged
        self._left_out_before = refused_keys.left_out
        self._checkpoint_offset = plan.offset

    @property
    def commands(self) -> int:
        """How many the task is not to take along."""
        return 0 if self._selector is None else self._selector.left_out

    @property
    def failure(self) -> EngineError | None:
        """The error that a command is which cannot be done for what is selected; nothing behind it is taken."""
        return None if self._selector is None else self._selector.failure

    def selected(self, data: bytes) -> bytes:
        """What the transcoder gets of the source's bytes."""
        return data if self._selector is None else self._selector.select(data)

    def note(self) -> None:
        """Count and list what the transcoder has left out."""
        if self._selector is not None:
            self._refused_keys.add(self._selector.refused, are_commands=True)
        if self._support is not None and isinstance(self._transcoder, ForeignStreamTranscoder):
            left_out = Counter(self._support.fell_away)
            self._refused_keys.note_left_out(self._left_out_before + left_out)
            self._refused_keys.note_bridged(self._bridged_before + self._transcoder.bridged)
            self._refused_keys.add(self._transcoder.refused, are_commands=True)

    def wants_checkpoint(self) -> bool:
        """Whether so much was left out since the newest one that it must move, or a crash would have it all read again."""
        transcoder = self._transcoder
        if self._selector is None or transcoder.in_transaction:
            return False
        newest = max(self._checkpoint_offset, transcoder.block_offset)
        if transcoder.offset - newest < LEFT_OUT_BYTES:
            return False
        self._checkpoint_offset = transcoder.offset
        return True
