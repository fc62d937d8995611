"""One line: source shard ─▶ spool ─▶ transcoders ─▶ limiter ─▶ target. Read this file first.

A line runs once: it connects, takes the snapshot if it must, then the stream until it is told to stop. What
happens after an error is the task's decision; a new line continues from the checkpoint that the old one left
in the target.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from engine.checkpoint.checkpoint import (
    Checkpoint,
    checkpoint_key,
    snapshot_fields,
    stream_fields,
)
from engine.checkpoint.store import read_checkpoint
from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.plan import SnapshotPlan, StreamPlan
from engine.codec.snapshot import SnapshotTranscoder
from engine.codec.stream import StreamTranscoder
from engine.control_client import control_client
from engine.errors import SourceLinkLost, SourceRefused
from engine.position import Position
from engine.replay.token_bucket import TokenBucket
from engine.settings import ConflictPolicy, Method, TaskSettings
from engine.source.handshake import FullResync, Verdict
from engine.source.replica_link import ReplicaLink
from engine.spool.memory import Chunk, Section
from engine.stats import LineStats
from engine.supervision.states import TaskState
from engine.target.capabilities import Capabilities, probe_target
from engine.target.replies import ReplyPolicy
from engine.target.shard_link import ShardLink

log = structlog.get_logger("engine.line")

# Blocks that are not full go out at once while fewer than this many are unanswered; then they fill up.
PARTIAL_BLOCKS_INFLIGHT = 4
BEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the source says of itself; offset is -1 where INFO is not permitted."""

    version: str
    offset: int
    is_cluster: bool


class Line:
    """Runs one line of a task once. `stats` and `limiter` belong to the task and outlive the line."""

    def __init__(
        self,
        settings: TaskSettings,
        *,
        stats: LineStats,
        limiter: TokenBucket,
        on_phase: Callable[[TaskState], None],
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._limiter = limiter
        self._on_phase = on_phase
        self._key = checkpoint_key(settings.task_id, "0")
        self._link: ReplicaLink | None = None
        self._target: ShardLink | None = None
        self._capabilities: Capabilities | None = None
        self._epoch = 0
        self._is_stopping = False
        self._goal_offset: int | None = None
        self._getack_offset = -1
        self.is_resumed = False
        self.wrote_to_target = False

    # ---- what the task may ask at any time

    def stop(self) -> None:
        """Finish what is in flight, keep the checkpoint, then `run` returns. What waits in the spool is
        dropped: the source still has it."""
        self._is_stopping = True
        if self._link is not None:
            self._link.stop_reading()
            self._link.spool.end()

    @property
    def spool_bytes(self) -> int:
        """Bytes received and not yet transcoded."""
        return 0 if self._link is None else self._link.spool.held_bytes

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest bytes received that the target has not confirmed; 0.0 when there are none."""
        target = self._target
        oldest = None if target is None else target.oldest_received_seconds
        if oldest is None and self.spool_bytes and self._link is not None:
            oldest = self._link.spool.oldest_received_seconds
        return 0.0 if not oldest else max(0.0, time.monotonic() - oldest)

    def observe(self) -> None:
        """Bring the counters that others keep into `stats`."""
        link, stats = self._link, self._stats
        if link is not None:
            stats.read_offset = link.read_offset
            if link.framing is not None:
                stats.snapshot_bytes_total = link.framing.total_bytes
            stats.source_offset = max(stats.source_offset, link.read_offset)
        if self._target is not None:
            stats.keys_skipped = self._target.replies_skipped

    # ---- the run

    async def run(self) -> None:
        """Migrate until done or stopped.

        Raises:
            EngineError: whatever ended the line; both connections are closed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(self._beat(), name="beat")
                watch = group.create_task(self._watch_source(), name="watch-source")
                try:
                    await self._connect_and_replay()
                finally:
                    beat.cancel()
                    watch.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            self.observe()
            for link in (self._link, self._target):
                if link is not None:
                    link.close()

    async def _connect_and_replay(self) -> None:
        settings = self._settings
        facts = await self._ask_source()
        if facts.is_cluster:
            raise SourceRefused(
                f"the source {settings.source.address} is a cluster node, and this version migrates standalone servers",
                hint="one node holds only its own slots; cluster sources need a later version",
            )
        capabilities = await probe_target(settings.target, settings.target_link)
        self._capabilities = capabilities
        checkpoint = await read_checkpoint(settings.target, settings.target_link, self._key)
        self._epoch = 1 if checkpoint is None else checkpoint.epoch + 1
        resume_from = None
        if checkpoint is not None and settings.method is Method.INCREMENTAL:
            resume_from = checkpoint.position
        self._target = await ShardLink.open(
            settings.target,
            settings.target_link,
            client_name=f"redis-ferry:{settings.task_id}:0:{self._epoch}",
            policy=ReplyPolicy(skip_existing=settings.on_conflict is ConflictPolicy.SKIP),
            on_confirmed=self._on_confirmed,
        )
        self._link, verdict = await ReplicaLink.open(
            settings.source,
            settings.source_link,
            memory_bytes=settings.spool.memory_bytes,
            resume_from=resume_from,
        )
        log.info(
            "line.connected",
            source=settings.source.address,
            source_version=facts.version or "unknown",
            target=settings.target.address,
            target_version=".".join(map(str, capabilities.version)),
            target_server=capabilities.server,
            target_rdb_version=capabilities.rdb_version,
            clock_offset_ms=capabilities.clock_offset_ms,
        )
        if self._is_stopping:
            return
        position, db = await self._take_position(verdict, checkpoint, resume_from)
        if settings.method is Method.FULL or self._is_stopping:
            return
        await self._stream(position, db)

    async def _take_position(
        self, verdict: Verdict, checkpoint: Checkpoint | None, resume_from: Position | None
    ) -> tuple[Position, int]:
        """Where the stream starts: at the checkpoint, or behind a snapshot taken here."""
        if isinstance(verdict, FullResync):
            if resume_from is not None:
                log.warning(
                    "psync.full_resync",
                    asked=str(resume_from),
                    source_has=str(verdict.position),
                    why="the source no longer has the history behind the checkpoint",
                    remains="keys deleted on the source since then stay on the target",
                )
            else:
                log.info("psync.full_resync", position=str(verdict.position))
            self._stats.full_resyncs += 1
            await self._take_snapshot(verdict.position)
            return verdict.position, 0
        assert resume_from is not None and checkpoint is not None and self._link is not None
        position = Position(verdict.replid, resume_from.offset)
        log.info("psync.partial_resync", asked=str(resume_from), replid=verdict.replid)
        self._stats.partial_resyncs += 1
        self._stats.snapshot_is_applied = True
        self._stats.applied_offset = position.offset
        self.is_resumed = True
        self._link.start_stream_at(position.offset)
        return position, checkpoint.db

    # ---- snapshot phase

    async def _take_snapshot(self, position: Position) -> None:
        assert self._link is not None and self._target is not None and self._capabilities is not None
        settings, stats, spool = self._settings, self._stats, self._link.spool
        self._on_phase(TaskState.SNAPSHOT)
        stats.applied_offset = position.offset
        stats.keys_applied = 0
        stats.snapshot_is_applied = False
        # From the first key on the old checkpoint would be a lie.
        await self._send_own(encode("HSET", self._key, *_flat(snapshot_fields(position.replid, self._epoch))))
        transcoder = SnapshotTranscoder(self._snapshot_plan(self._capabilities))
        while not transcoder.is_finished:
            chunk = await self._next_chunk()
            if chunk is None:
                return
            if chunk.section is Section.STREAM:
                transcoder.finish()
                break
            transcoder.feed(chunk.data)
            while (block := transcoder.next_block(spool.is_empty)) is not None:
                await self._send(block, chunk.received_seconds)
            stats.snapshot_bytes_read = transcoder.bytes_read
            stats.keys_expected = transcoder.keys_expected
        while (block := transcoder.next_block(True)) is not None:
            await self._send(block, time.monotonic())
        await self._target.drain()
        stats.not_carried = dict(transcoder.not_carried)
        if stats.not_carried:
            log.warning("snapshot.not_carried", **{k.replace(" ", "_"): v for k, v in stats.not_carried.items()})
        if settings.method is Method.FULL:
            await self._send_own(encode("DEL", self._key))
        else:
            await self._send_own(encode("HSET", self._key, *_flat(stream_fields(position, 0, self._epoch))))
        stats.snapshot_is_applied = True
        log.info("snapshot.applied", keys=stats.keys_applied, bytes=stats.bytes_applied)

    def _snapshot_plan(self, capabilities: Capabilities) -> SnapshotPlan:
        return SnapshotPlan(
            target_rdb_version=capabilities.rdb_version,
            redis_types=capabilities.redis_types,
            valkey_types=capabilities.valkey_types,
            on_conflict=self._settings.on_conflict,
            strings_as_set=capabilities.absolute_set,
            functions=capabilities.functions,
            key_metadata=capabilities.key_metadata,
            block_bytes=self._settings.target_link.block_bytes,
        )

    # ---- stream phase

    async def _stream(self, position: Position, db: int) -> None:
        assert self._link is not None and self._target is not None and self._capabilities is not None
        target, stats, spool = self._target, self._stats, self._link.spool
        self._on_phase(TaskState.STREAM)
        if self._settings.exit_when_synced:
            facts = await self._ask_source()
            self._goal_offset = max(facts.offset, self._link.read_offset)
            log.info("stream.goal", offset=self._goal_offset)
        transcoder = StreamTranscoder(
            StreamPlan(
                checkpoint_key=self._key,
                replid=position.replid,
                offset=position.offset,
                db=db,
                epoch=self._epoch,
                absolute_expiry=self._capabilities.absolute_set,
                clock_offset_ms=self._capabilities.clock_offset_ms,
                block_bytes=self._settings.target_link.block_bytes,
            )
        )
        received = time.monotonic()
        while not self._is_done():
            chunk = spool.get_now()
            if chunk is not None:
                if not transcoder.has_open_block:
                    received = chunk.received_seconds
                transcoder.feed(chunk.data, chunk.received_ms)
                while (block := transcoder.next_block(False)) is not None:
                    await self._send(block, received)
                    received = chunk.received_seconds
                continue
            if transcoder.has_open_block and not transcoder.in_transaction:
                await target.wait_for_fewer(PARTIAL_BLOCKS_INFLIGHT)
                if spool.is_empty and (block := transcoder.next_block(True)) is not None:
                    await self._send(block, received)
                continue
            self._note_quiet_progress(transcoder)
            if self._is_done() or not await spool.wait():
                break
        await self._finish_stream(transcoder, position.replid)
        stats.flushes += transcoder.flushes

    async def _finish_stream(self, transcoder: StreamTranscoder, replid: str) -> None:
        """Send what is whole, wait for the target, and leave the checkpoint at the last offset."""
        assert self._target is not None and self._link is not None
        if not transcoder.in_transaction:
            block = transcoder.next_block(True)
            if block is not None:
                await self._send(block, time.monotonic())
            self._note_quiet_progress(transcoder)
        await self._target.drain()
        position = Position(replid, self._stats.applied_offset)
        fields = stream_fields(position, transcoder.db, self._epoch)
        if not transcoder.in_transaction:
            await self._send_own(encode("HSET", self._key, *_flat(fields)))
        if self._link.acknowledges:
            self._link.acknowledge(position.offset)
        log.info("stream.stopped", position=str(position), db=transcoder.db)

    def _note_quiet_progress(self, transcoder: StreamTranscoder) -> None:
        """Offsets also move by PING and GETACK: confirm them behind the blocks in flight."""
        assert self._target is not None
        if transcoder.getack_offset > self._getack_offset:
            self._getack_offset = transcoder.getack_offset
        if not transcoder.has_open_block and not transcoder.in_transaction:
            self._target.send(Block(data=b"", replies=0, offset=transcoder.offset, db=transcoder.db))

    def _is_done(self) -> bool:
        if self._is_stopping:
            return True
        goal = self._goal_offset
        return goal is not None and self._stats.applied_offset >= goal

    # ---- both phases

    async def _next_chunk(self) -> Chunk | None:
        assert self._link is not None
        spool = self._link.spool
        while not self._is_stopping:
            chunk = spool.get_now()
            if chunk is not None:
                return chunk
            if not await spool.wait():
                return None
        return None

    async def _send(self, block: Block, received_seconds: float) -> None:
        assert self._target is not None
        block.received_seconds = received_seconds
        await self._limiter.take(len(block.data))
        if not self._target.has_room:
            await self._target.wait_for_room()
        self.wrote_to_target = True
        self._target.send(block)

    async def _send_own(self, command: bytes) -> None:
        """One command of ours (the checkpoint, in database 0), and its answer."""
        assert self._target is not None
        self.wrote_to_target = True
        self._target.send(Block(data=encode("SELECT", 0) + command, replies=2))
        await self._target.drain()

    def _on_confirmed(self, block: Block) -> None:
        stats = self._stats
        stats.keys_applied += block.keys
        stats.bytes_applied += len(block.data)
        if block.offset < 0:
            return
        stats.commands_applied += block.commands
        stats.applied_offset = block.offset
        if block.commands:
            stats.apply_lag.add(time.monotonic() - block.received_seconds, block.commands)
        link = self._link
        if link is None:
            return
        if 0 <= self._getack_offset <= block.offset:
            self._getack_offset = -1
            link.acknowledge(block.offset)
        if self._goal_offset is not None and block.offset >= self._goal_offset:
            link.spool.end()

    async def _beat(self) -> None:
        """Once a second: acknowledge or keep alive, look for silence, sample the rates."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._stats.bytes_rate.sample(self._stats.bytes_applied)
            self._stats.keys_rate.sample(self._stats.keys_applied)
            link = self._link
            if link is None:
                continue
            if link.framing is not None and not link.framing.is_complete:
                link.keep_alive()
            elif link.acknowledges:
                link.acknowledge(self._stats.applied_offset)
            limit = self._settings.source_link.silence_timeout_seconds
            if link.is_reading and link.seconds_silent > limit:
                link.fail(SourceLinkLost(f"the source sent nothing for {link.seconds_silent:.0f} s"))

    async def _ask_source(self) -> SourceFacts:
        """INFO of the source; without permission for it the migration runs on less knowledge."""
        settings = self._settings
        client = control_client(
            settings.source, timeout_seconds=settings.source_link.connect_timeout_seconds
        )
        try:
            info = await client.info()
        except (RedisError, OSError) as error:
            log.debug("source.info_failed", error=str(error))
            return SourceFacts("", -1, is_cluster=False)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()
        return SourceFacts(
            version=str(info.get("valkey_version") or info.get("redis_version", "")),
            offset=int(info.get("master_repl_offset", -1)),
            is_cluster=bool(info.get("cluster_enabled")),
        )

    async def _watch_source(self) -> None:
        """Keep `source_offset` fresh: the lag that plain bytes in our hands cannot show."""
        settings = self._settings
        client = control_client(
            settings.source, timeout_seconds=settings.source_link.connect_timeout_seconds
        )
        try:
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                try:
                    info = await client.info("replication")
                except (RedisError, OSError):
                    continue  # the replica link finds a lost source by itself
                offset = int(info.get("master_repl_offset", 0))
                self._stats.source_offset = max(self._stats.source_offset, offset)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()


def _flat(fields: dict[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
