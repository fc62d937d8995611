"""One stay at a cluster: every slot has its own checkpoint, written with its data."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.checkpoint.claim import Claim
from engine.checkpoint.cluster_claim import ClusterClaim
from engine.checkpoint.slot_checkpoints import encoded_fields, slot_fields
from engine.cluster.slot_holders import SlotHolders
from engine.cluster.topology import SLOTS, Shard
from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.slot_router import SlotRouter
from engine.codec.slots import key_slot, slot_tags
from engine.codec.stream import StreamTranscoder
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetNotReady
from engine.replay.cluster_delivery import ClusterDelivery
from engine.replay.delivery import DeliveryEvents
from engine.replay.sweep_block import SweepBlock
from engine.replay.target_session import TargetSession
from engine.replay.token_bucket import TokenBucket
from engine.settings import ConflictPolicy, DeliveryMode, TaskSettings
from engine.stats import LineStats
from engine.target.capabilities import Capabilities, probe_target
from engine.target.replies import ReplyPolicy


class ClusterSession(TargetSession):
    """The right and the connections to write one line on a cluster.

    is_exactly_once is False: the stream's blocks carry no checkpoint, the delivery adds them by slot.
    """

    delivery: ClusterDelivery  # type: ignore[assignment]  # the same interface

    def __init__(
        self,
        settings: TaskSettings,
        claim: ClusterClaim,
        claimed: Claim,
        *,
        key: bytes,
        capabilities: Capabilities,
        delivery: ClusterDelivery,
        ledger_id: str,
    ) -> None:
        super().__init__(
            key=key,
            capabilities=capabilities,
            claim=claimed,
            delivery=delivery,  # type: ignore[arg-type]
            is_exactly_once=False,
            ledger_id=ledger_id,
            endpoint=settings.target,
            settings=settings.target_link,
        )
        self._claim = claim
        self._is_transactional = settings.delivery is DeliveryMode.EXACTLY_ONCE
        self._block_bytes = settings.target_link.block_bytes
        self._cuts_at_slots = settings.selection.is_everything
        self._cut: StreamTranscoder | None = None
        self._generation = claim.slots.generation
        self._resumed = None if claimed.checkpoint is None else claimed.checkpoint.position
        self.is_cluster = True
        delivery.router.tells_db = not settings.selection.is_everything
        self.in_doubt = delivery.routing.in_doubt
        delivery.is_in_snapshot = self._resumed is None
        if self._resumed is not None:
            delivery.router.skip = claim.slots.applied
            delivery.skip_until = max(claim.slots.applied)

    @classmethod
    async def open_cluster(  # noqa: PLR0913 - keyword-only; the line has them at hand
        cls,
        settings: TaskSettings,
        claim: ClusterClaim,
        *,
        key: bytes,
        suffix: bytes,
        connection_prefix: str,
        known_epoch: int,
        ledger_id: str,
        accept: Callable[[Capabilities], None],
        limiter: TokenBucket,
        stats: LineStats,
        events: DeliveryEvents,
    ) -> ClusterSession:
        """As TargetSession.open, on all shards."""
        await claim.refresh()
        capabilities = await probe_cluster(claim, settings)
        accept(capabilities)
        claimed = await claim.take(known_epoch)
        delivery = ClusterDelivery(
            claim,
            SlotRouter(suffix, False),
            limiter=limiter,
            stats=stats,
            events=events,
            settings=settings,
            policy=ReplyPolicy(skip_existing=settings.on_conflict is ConflictPolicy.SKIP),
            client_name=f"{connection_prefix}{claimed.epoch}",
        )
        try:
            await delivery.open()
        except BaseException:
            await delivery.close()
            if not claimed.was_there:
                with contextlib.suppress(EngineError):
                    await claim.withdraw()
            raise
        return cls(
            settings, claim, claimed,
            key=key, capabilities=capabilities, delivery=delivery, ledger_id=ledger_id,
        )  # fmt: skip

    async def holders(self) -> SlotHolders | None:
        """Which primaries have which slots now."""
        return await self._claim.holders()

    def has_applied(self, key: bytes, offset: int) -> bool:
        """Whether the key's slot has the stream up to `offset`."""
        skip = self.delivery.router.skip
        return skip is not None and skip[key_slot(key)] >= offset

    def note_progress(self, transcoder: StreamTranscoder) -> None:
        """Where slots may have what comes, a block ends wherever one of them does, so that a slot has all of a block or nothing."""
        router = self.delivery.router
        router.margin_since_ms = transcoder.margin_since_ms
        if self._cuts_at_slots:
            if transcoder is not self._cut and router.skip is not None:
                self._cut = transcoder
                transcoder.cut_at({*router.skip, self._claim.slots.everywhere})
            return
        # A slot may end among commands that are left out, where no block can: then each command has a block of its own.
        is_behind = transcoder.offset < self.delivery.skip_until
        transcoder.block_bytes = 1 if is_behind else self._block_bytes

    async def write_checkpoint(self, fields: Mapping[str, str], *, anew: bool = False) -> None:
        """Every slot's, and wait for it. At the start of a resumed stream the slots know better, and keep theirs."""
        del anew
        router = self.delivery.router
        if fields["phase"] == "snapshot":
            self._generation, self._resumed = secrets.token_hex(4), None
            router.skip, self.delivery.skip_until = None, -1
            router.is_transaction = False
            self.delivery.routing.forget_marks()
            self.delivery.is_in_snapshot = True
        else:
            router.is_transaction = self._is_transactional
            resumed, self._resumed = self._resumed, None
            if resumed is not None:
                return
        await self.delivery.send_own(self._sweep(fields, is_due=True))
        self.delivery.is_in_snapshot = fields["phase"] == "snapshot"

    def checkpoint_block(self, fields: Mapping[str, str], *, anew: bool = False) -> Block:
        """Every slot's, when the delivery finds that it is time."""
        del anew
        return self._sweep(fields, is_due=False)

    def last_checkpoint_block(self, fields: Mapping[str, str]) -> Block:
        """Every slot's, now."""
        return self._sweep(fields, is_due=True)

    def _sweep(self, fields: Mapping[str, str], *, is_due: bool) -> SweepBlock:
        self.delivery.router.margin_since_ms = int(fields["margin_since"])
        every_slot = slot_fields(
            phase=fields["phase"],
            generation=self._generation,
            replid=fields["replid"],
            ledger=fields["ledger"],
        )
        return SweepBlock(
            encoded_fields(every_slot),
            offset=int(fields["offset"]),
            db=int(fields["db"]),
            is_due=is_due,
        )

    async def remove_checkpoint(self) -> None:
        """Remove those of all slots: the task is over."""
        router = self.delivery.router
        await self.delivery.drain()
        router.is_transaction = False
        names = [encode("DEL", router.checkpoint_key(slot)) for slot in range(SLOTS)]
        await self.delivery.send_own(
            Block(data=b"".join([*names, encode("DEL", self.key)]), replies=0)
        )

    def guarded(self, commands: list[bytes]) -> Block:
        """Commands of ours, sorted by slot with the others."""
        return Block(data=b"".join(commands), replies=len(commands))

    def close(self) -> None:
        """Drop the connections."""
        self._closing = asyncio.ensure_future(self.delivery.close())


async def probe_cluster(claim: ClusterClaim, settings: TaskSettings) -> Capabilities:
    """What all shards can load together; the oldest one decides."""
    probed = await asyncio.gather(
        *(
            _probe_shard(endpoint, shard, settings)
            for endpoint, shard in zip(claim.endpoints, claim.map.shards, strict=True)
        )
    )
    oldest = min(probed, key=lambda it: it.rdb_version)
    return replace(
        oldest,
        redis_types=frozenset.intersection(*(it.redis_types for it in probed)),
        valkey_types=frozenset.intersection(*(it.valkey_types for it in probed)),
        commands=frozenset.intersection(*(it.commands for it in probed)),
        key_count=sum(it.key_count for it in probed),
        bulk_limit_bytes=min(it.bulk_limit_bytes for it in probed),
        query_limit_bytes=min(it.query_limit_bytes for it in probed),
        run_id=" ".join(sorted(f"{it.run_id}/{it.replid}" for it in probed)),
    )


async def _probe_shard(endpoint: Endpoint, shard: Shard, settings: TaskSettings) -> Capabilities:
    """With keys of one of its slots that is not being moved."""
    tags, ranges = slot_tags(), shard.ranges
    # The last one is another than the first: a reshard takes slots from the lowest on.
    tried = (ranges[0][0], ranges[len(ranges) // 2][0], ranges[-1][-1])
    for slot in tried:
        try:
            return await probe_target(
                endpoint,
                settings.target_link,
                cluster_tag=tags[4 * slot : 4 * slot + 4].decode(),
            )
        except TargetNotReady as error:
            if error.code != "TRYAGAIN" or slot == tried[-1]:
                raise
    raise AssertionError
