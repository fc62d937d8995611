"""The snapshot phase: RDB chunks from the spool, blocks to the target."""

from __future__ import annotations

import time

from engine.codec.plan import SnapshotPlan
from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import CorruptRdb
from engine.replay.delivery import Delivery
from engine.spool.memory import Chunk, MemorySpool, Section
from engine.stats import LineStats


async def apply_snapshot(
    spool: MemorySpool, delivery: Delivery, plan: SnapshotPlan, stats: LineStats
) -> bool:
    """Apply the RDB at the head of the spool; True when the target has confirmed all of it.

    False if the spool ended first (a graceful stop). The stream's chunks behind it stay in the spool.

    Raises:
        CorruptRdb, UnsupportedByTarget, and what ended either link.
    """
    transcoder = SnapshotTranscoder(plan)
    while not transcoder.is_finished:
        chunk = await _next_chunk(spool)
        if chunk is None:
            return False
        if chunk.section is Section.STREAM:
            transcoder.finish()
        transcoder.feed(chunk.data)
        while (block := transcoder.next_block(spool.is_empty)) is not None:
            await delivery.send(block, chunk.received_seconds)
        stats.snapshot_bytes_read = transcoder.bytes_read
        stats.keys_expected = transcoder.keys_expected
    while (block := transcoder.next_block(True)) is not None:
        await delivery.send(block, time.monotonic())
    if transcoder.bytes_left_over:
        raise CorruptRdb(
            f"{transcoder.bytes_left_over} bytes lie between the snapshot's end and the stream",
            offset=transcoder.bytes_read,
        )
    await delivery.drain()
    stats.not_carried = dict(transcoder.not_carried)
    return True


async def _next_chunk(spool: MemorySpool) -> Chunk | None:
    while True:
        chunk = spool.get_now()
        if chunk is not None:
            return chunk
        if not await spool.wait():
            return None
