"""Which lines a task has: one, or one for each shard of a source cluster. And whether they may still go on.

A key that moves from one source shard to another is deleted by the one (DEL) and made by the other (RESTORE), in two
streams without an order between them. So slots may not move while a task runs, nor between two of its runs: a move is
found by comparing the map with that of the task's beginning, kept in its folder and, line by line, in the checkpoints.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from engine.cluster.discovery import ask_cluster_map
from engine.cluster.places import ShardPlace, place_of
from engine.cluster.primaries import ask_primaries, moving_in
from engine.cluster.topology import ClusterMap, Shard, shown_ranges
from engine.errors import (
    EngineError,
    SourceAuthError,
    SourceNotReady,
    SourceRefused,
    SourceUnreachable,
    slots_moving,
)
from engine.settings import ReadFrom, SpoolSettings, TaskSettings
from engine.supervision.line_plan import ONLY_LINE, LinePlan

log = structlog.get_logger("engine.task")

FILE_NAME = "source-shards.json"
FIRST_ASK_SHARE = 0.25
LEAST_MEMORY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KnownShard:
    """A source shard at the task's beginning, its primary and configuration epoch as last seen."""

    slots: str
    node_ids: frozenset[str]
    primary_id: str
    epoch: int


class SourceShards:
    """The shards that a task began with. directory: the task's; None keeps nothing beyond the process.

    latest: the newest map that agreed with the beginning: who leads the shards now.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / FILE_NAME
        self._known: dict[str, KnownShard] = {}
        self._was_kept = False
        self.latest: ClusterMap | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is a map to compare with."""
        return bool(self._known)

    def load(self) -> None:
        """What an earlier run has noted."""
        if self._path is None:
            return
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self._path.read_bytes())
            self._known = {name: _from_fields(it) for name, it in noted.items()}
            self._was_kept = bool(self._known)

    def forget(self) -> None:
        """The task is over."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def check(self, found: ClusterMap) -> bool:
        """Compare with the beginning; note who leads now. Call with every map that is seen.

        Returns False where that cannot be done now: a failover is under way, and who leads then is to be seen.

        Raises:
            SourceRefused: slots have moved between shards, or do so now.
        """
        if found.moving:
            raise self._is_moving(found)
        if found.unserved:
            return False
        for name, known in self._known.items():
            shard = found.same_shard(known.slots, known.node_ids)
            if shard is None:
                its = [it for it in found.shards if it.primary.node_id in known.node_ids]
                now = shown_ranges([slots for it in its for slots in it.ranges]) or "none"
                raise _moved(f"the shard that had the slots {known.slots} has {now} now ({name})")
            if shard.primary.node_id == known.primary_id and shard.epoch > known.epoch:
                raise _given_back(known)
        self._note(found)
        self.latest = found
        return True

    def _is_moving(self, found: ClusterMap) -> SourceRefused:
        slot = min(found.moving)
        shard = found.shard_of(slot)
        whose = "" if shard is None else f", which {shard.primary.address} serves,"
        what = f"slot {slot}{whose} is being moved to another shard"
        if self._known:
            return _moved(what)
        return SourceRefused(
            f"slots of the source are on their way: {what}",
            hint="wait until the move has ended, or end it (redis-cli --cluster check, redis-cli --cluster fix); "
            "then start again",
        )

    def noted(self, line: str) -> str:
        """What goes into a line's checkpoint: its shard as last seen."""
        known = self._known.get(line)
        return "" if known is None else json.dumps(_as_fields(known), separators=(",", ":"))

    def compare(self, line: str, noted: str) -> None:
        """Compare with what stands in a line's checkpoint, if the folder, which knows better, was lost.

        Raises:
            SourceRefused: slots have moved between shards since.
        """
        now = self._known.get(line)
        if now is None or self._was_kept:
            return
        with suppress(ValueError, KeyError, TypeError):
            before = _from_fields(json.loads(noted))
            if before.slots != now.slots or not before.node_ids & now.node_ids:
                raise _moved(
                    f"the shard that had the slots {before.slots} has {now.slots} now ({line})"
                )
            if before.primary_id == now.primary_id and now.epoch > before.epoch:
                raise _given_back(before)

    def _note(self, found: ClusterMap) -> None:
        before = self._known
        fresh = {}
        for shard in found.shards:
            # Also those that are away: they may lead again. But not those that have gone over to another shard.
            elsewhere = {id_ for it in found.shards if it is not shard for id_ in it.node_ids}
            known = before.get(line_name(shard))
            ids = shard.node_ids | (known.node_ids - elsewhere if known else frozenset())
            fresh[line_name(shard)] = KnownShard(
                shown_ranges(shard.ranges), ids, shard.primary.node_id, shard.epoch
            )
        self._known = fresh
        if self._path is None or fresh == before:
            return
        text = json.dumps({name: _as_fields(it) for name, it in fresh.items()}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = self._path.with_suffix(".new")
            new.write_text(text)
            new.replace(self._path)
        except OSError as error:
            log.warning("source.shards_not_noted", file=str(self._path), error=error.strerror)


def _as_fields(known: KnownShard) -> dict[str, Any]:
    return {
        "slots": known.slots,
        "nodes": sorted(known.node_ids),
        "primary": known.primary_id,
        "epoch": known.epoch,
    }


def _from_fields(it: dict[str, Any]) -> KnownShard:
    return KnownShard(it["slots"], frozenset(it["nodes"]), it["primary"], it["epoch"])


def _given_back(known: KnownShard) -> SourceRefused:
    # A node takes a higher epoch when it takes a slot over (cluster.c, clusterBumpConfigEpoch…).
    return _moved(f"the shard with the slots {known.slots} has given some away and got them back")


def _moved(what: str) -> SourceRefused:
    return slots_moving(what, how="have moved since the task began")


def line_name(shard: Shard) -> str:
    """The name of a shard's line: its lowest slot tells it from the others as long as no slot moves."""
    return f"s{shard.first_slot}"


async def plan_lines(settings: TaskSettings, shards: SourceShards) -> list[LinePlan]:
    """Ask the source what it is, and make a line for each of its shards.

    A source that does not answer is left to a single line if no cluster was seen there before: it knows whether to
    try again.

    Raises:
        SourceUnreachable, SourceNotReady, SourceAuthError. SourceRefused: slots have no server, have moved, or do so now.
    """
    source = settings.source
    if source.sentinel is not None or source.unix_path is not None:
        return [LinePlan(ONLY_LINE, place_of(source, role="source"))]
    shards.load()
    timeout_seconds = settings.source_link.connect_timeout_seconds
    try:
        # What does not answer soon is left to the line, which takes its own time: not both in full.
        share = 1.0 if source.more or shards.is_known else FIRST_ASK_SHARE
        found = await ask_cluster_map(
            source, role="source", timeout_seconds=timeout_seconds * share
        )
    except EngineError as error:
        if shards.is_known or source.more or isinstance(error, SourceAuthError):
            if isinstance(error, SourceUnreachable) and shards.is_known:
                raise SourceNotReady(error.message, hint=error.hint) from error
            raise
        log.debug("source.map_not_asked", error=str(error))
        found = None
    if found is None:
        if shards.is_known:
            log.debug("source.is_no_cluster")
        return [LinePlan(ONLY_LINE, place_of(source, role="source"))]
    if found.unserved:
        # A task that has run before waits for a failover to end, as it does while it runs.
        kind = SourceNotReady if shards.is_known else SourceRefused
        raise kind(
            f"{found.unserved} of the source cluster's slots are served by nobody",
            hint="repair it first: redis-cli --cluster check, redis-cli --cluster fix",
        )
    # One that does not answer now is asked again by ShardWatch.
    answers = await ask_primaries(
        found.shards, source, timeout_seconds=timeout_seconds * FIRST_ASK_SHARE
    )
    shards.check(replace(found, moving=found.moving | moving_in(answers)))
    reads_from_replica = settings.cluster.read_from is ReadFrom.REPLICA
    return [
        LinePlan(
            line_name(shard),
            ShardPlace(
                source,
                found,
                shard,
                reads_from_replica=reads_from_replica,
                timeout_seconds=timeout_seconds,
                check=shards.check,
            ),
            shard.slots,
            partial(shards.noted, line_name(shard)),
            partial(shards.compare, line_name(shard)),
        )
        for shard in found.shards
    ]


def settings_of_line(settings: TaskSettings, lines: int) -> TaskSettings:
    """The task's settings with the line's share of the spool."""
    if lines == 1:
        return settings
    spool: SpoolSettings = settings.spool
    return replace(
        settings,
        spool=replace(
            spool,
            memory_bytes=max(spool.memory_bytes // lines, LEAST_MEMORY_BYTES),
            tail_bytes=spool.tail_bytes // lines,
            disk_bytes=spool.disk_bytes // lines,
        ),
    )
