"""Values that are built on the target under another name: their first and last steps, and what a cut transfer leaves of them."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from engine.cluster.topology import SLOTS
from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.part_blocks import is_expected
from engine.codec.part_names import PART_PREFIX, part_name
from engine.codec.slots import slot_tags
from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import EngineError, TargetRejected
from engine.replay.delivery import Delivery
from engine.replay.target_session import TargetSession
from engine.stats import LineStats


class PartErrors(Protocol):
    """A link to the target: what it asks about error replies to commands for big values."""

    on_part_error: Any


class BigValueSteps:
    """One snapshot's.

    is_repeated: what was on its way when a connection was lost is sent again, until the value is complete.
    """

    def __init__(self, transcoder: SnapshotTranscoder, stats: LineStats) -> None:
        self._transcoder = transcoder
        self._stats = stats
        self._may_be_gone = False
        self.is_repeated = False

    def watch(self, link: PartErrors) -> None:
        """Tell the link which errors are none."""
        link.on_part_error = self._is_expected

    def _is_expected(self, command: list[bytes], text: str) -> bool:
        return is_expected(
            command, text, is_repeated=self.is_repeated, may_be_gone=self._may_be_gone
        )

    async def send(self, delivery: Delivery, block: Block, received_seconds: float) -> None:
        """Send a block that must be alone on its way; raises what ended the target's link."""
        await delivery.drain()
        skipped = self._stats.keys_skipped
        self._may_be_gone = block.may_be_gone
        await delivery.send(block, received_seconds)
        await delivery.drain()
        self._may_be_gone = self.is_repeated = False
        if self._stats.keys_skipped > skipped:
            self._transcoder.leave_value_out()

    async def give_up(self, delivery: Delivery) -> None:
        """The snapshot ends in the middle: what there is of a value goes, if the target can still be told."""
        name = self._transcoder.part_name
        if name is None:
            return
        commands = [
            encode("SELECT", self._transcoder.target_db),
            encode("DEL", name),
            encode("SELECT", 0),
        ]
        with contextlib.suppress(EngineError):
            await delivery.send_own(Block(data=b"".join(commands), replies=len(commands)))

    def named(self, error: TargetRejected) -> TargetRejected:
        """The error with the value's own name, where it has that under which the value is built."""
        key = self._transcoder.value_key or self._transcoder.last_value_key
        if key is None or not error.key.startswith(PART_PREFIX):
            return error
        return TargetRejected(
            f"the target refused {error.command} for the big value of key {key[:80]!r}: {error.reply}",
            command=error.command,
            key=key,
            reply=error.reply,
            offset=error.offset,
            hint=error.hint,
        )


def adds_to_stream(blocks: list[Block]) -> bool:
    """Whether entries of a big stream are among what a target has refused for a moment.

    It may have taken later ones, and then takes no earlier ones any more; all else may be sent again.
    """
    return any(PART_PREFIX in it.data and b"$4\r\nXADD\r\n" in it.data for it in blocks)


async def remove_unfinished(session: TargetSession, suffix: bytes) -> None:
    """Remove the value that an earlier attempt was cut in; raises what ended the target's link."""
    if session.is_cluster:
        tags = slot_tags()
        names = [part_name(suffix, tags[4 * slot : 4 * slot + 4]) for slot in range(SLOTS)]
        commands = [encode("DEL", name) for name in names]
    else:
        commands = [
            command
            for db in session.capabilities.dbs
            for command in (encode("SELECT", db), encode("DEL", part_name(suffix)))
        ]
        commands.append(encode("SELECT", 0))
    await session.delivery.send_own(Block(data=b"".join(commands), replies=len(commands)))
