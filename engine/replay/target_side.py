"""The target, whatever it is: a server, whoever the Sentinels name, or a cluster. Each stay asks anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.checkpoint.checkpoint import Checkpoint, checkpoint_key
from engine.checkpoint.claim import LineClaim
from engine.checkpoint.cluster_claim import ClusterClaim
from engine.checkpoint.slot_checkpoints import slot_suffix
from engine.cluster.places import place_of
from engine.replay.cluster_session import ClusterSession
from engine.replay.delivery import DeliveryEvents
from engine.replay.target_session import TargetSession
from engine.replay.token_bucket import TokenBucket
from engine.settings import TaskSettings
from engine.stats import LineStats
from engine.target.capabilities import Capabilities, TargetIsCluster, probe_target


class TargetSide:
    """One line's target."""

    def __init__(self, settings: TaskSettings, line: str) -> None:
        self._settings = settings
        self._key = checkpoint_key(settings.task_id, line)
        self._suffix = slot_suffix(settings.task_id, line)
        self._prefix = f"redis-ferry:{settings.task_id}:{line}:"
        self._place = place_of(settings.target, role="target")
        self._claim = LineClaim(
            settings.target,
            settings.target_link,
            self._key,
            connection_prefix=self._prefix,
            selection=settings.selection.text,
        )
        self._cluster: ClusterClaim | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether it was found to be one."""
        return self._cluster is not None

    async def peek(self) -> Checkpoint | None:
        """Whether it can be a target at all, and what it has; nothing is changed.

        Raises:
            TargetUnreachable, TargetNotReady, TargetAuthError, TargetRefused.
        """
        settings = await self._located()
        if self._cluster is None:
            try:
                await probe_target(settings.target, settings.target_link)
                return await self._claim.peek()
            except TargetIsCluster:
                self._cluster = self._cluster_claim()
        return await self._cluster.peek()

    async def _located(self) -> TaskSettings:
        if self._cluster is not None:
            return self._settings
        settings = replace(self._settings, target=await self._place.locate())
        self._claim.move_to(settings.target)
        return settings

    def _cluster_claim(self) -> ClusterClaim:
        return ClusterClaim(
            self._settings.target,
            self._settings.target_link,
            self._claim,
            key=self._key,
            suffix=self._suffix,
        )

    async def open_session(
        self,
        *,
        source_shard: str,
        known_epoch: int,
        ledger_id: str,
        accept: Callable[[Capabilities], None],
        limiter: TokenBucket,
        stats: LineStats,
        events: DeliveryEvents,
    ) -> TargetSession:
        """Take the line over and connect; see TargetSession.open. source_shard: goes into the checkpoint."""
        self._claim.source_shard = source_shard
        session = await self._open(
            known_epoch=known_epoch,
            ledger_id=ledger_id,
            accept=accept,
            limiter=limiter,
            stats=stats,
            events=events,
        )
        session.source_shard = source_shard
        return session

    async def _open(
        self,
        *,
        known_epoch: int,
        ledger_id: str,
        accept: Callable[[Capabilities], None],
        limiter: TokenBucket,
        stats: LineStats,
        events: DeliveryEvents,
    ) -> TargetSession:
        settings = await self._located()
        if self._cluster is None:
            try:
                session = await TargetSession.open(
                    settings,
                    self._claim,
                    key=self._key,
                    connection_prefix=self._prefix,
                    known_epoch=known_epoch,
                    ledger_id=ledger_id,
                    accept=accept,
                    limiter=limiter,
                    stats=stats,
                    events=events,
                )
            except TargetIsCluster:
                self._cluster = self._cluster_claim()
            else:
                if self._settings.target.sentinel is not None:
                    session.delivery.watch(self._settings.target, settings.target)
                return session
        return await ClusterSession.open_cluster(
            settings,
            self._cluster,
            key=self._key,
            suffix=self._suffix,
            connection_prefix=self._prefix,
            known_epoch=known_epoch,
            ledger_id=ledger_id,
            accept=accept,
            limiter=limiter,
            stats=stats,
            events=events,
        )
