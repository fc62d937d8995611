"""Asks the source, or all shards of it: what they say together is what the source has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from engine.cluster.discovery import ask_cluster_map, endpoint_of
from engine.cluster.places import place_of
from engine.cluster.primaries import ask_primaries, moving_in
from engine.endpoint import Endpoint
from engine.errors import EngineError
from engine.preflight.facts import SourceState, WriteRate
from engine.preflight.source_side import ask_source
from engine.settings import SourceReader


async def ask_source_or_shards(
    endpoint: Endpoint,
    *,
    timeout_seconds: float,
    sample_seconds: float,
    reader: SourceReader = SourceReader.PSYNC,
) -> SourceState:
    """As `ask_source`; a primary found by Sentinels; every primary of a cluster at the same time. Never raises."""
    try:
        first = await place_of(endpoint, role="source").locate()
    except EngineError as error:
        return SourceState(endpoint=endpoint, error=error, has_info=False)
    ask = partial(
        ask_source, timeout_seconds=timeout_seconds, sample_seconds=sample_seconds, reader=reader
    )
    found = await ask(first)
    if not found.is_cluster and (found.error is None or not endpoint.more):
        return found
    try:
        shards = await ask_cluster_map(endpoint, role="source", timeout_seconds=timeout_seconds)
    except EngineError:
        return found
    if shards is None or not shards.shards:
        return found if shards is None else replace(found, slots_unserved=shards.unserved)
    states = await asyncio.gather(*(ask(endpoint_of(it.primary, endpoint)) for it in shards.shards))
    moving: frozenset[int] = frozenset()
    if reader is not SourceReader.SCAN:  # which waits for them
        answers = await ask_primaries(shards.shards, endpoint, timeout_seconds=timeout_seconds)
        moving = moving_in(answers)
    return replace(
        together(states),
        shards=len(shards.shards),
        slots_unserved=shards.unserved,
        slots_moving=moving,
    )


def together(states: Sequence[SourceState]) -> SourceState:
    """Several shards as one source: sums of what they hold and write, the worst of what they are."""
    first = next((it for it in states if it.error is not None), states[0])
    if first.error is not None:
        return first
    keys: dict[int, int] = {}
    for state in states:
        for db, number in state.keys.items():
            keys[db] = keys.get(db, 0) + number
    rates = [it.write_rate for it in states]
    known = [it for it in rates if it is not None]
    return replace(
        first,
        denials=next((it.denials for it in states if it.denials), ()),
        is_loading=any(it.is_loading for it in states),
        keys=keys,
        used_memory_bytes=_sum(states, lambda it: it.used_memory_bytes),
        dataset_bytes=_sum(states, lambda it: it.dataset_bytes),
        backlog_bytes=_sum(states, lambda it: it.backlog_bytes),
        is_last_save_good=next(
            (False for it in states if it.is_last_save_good is False), first.is_last_save_good
        ),
        clock_offset_ms=max(
            (it.clock_offset_ms for it in states if it.clock_offset_ms is not None),
            key=abs,
            default=None,
        ),
        write_rate=WriteRate(
            bytes_per_second=sum(it.bytes_per_second for it in known),
            is_upper_bound=any(it.is_upper_bound for it in known),
            seconds=max(it.seconds for it in known),
        )
        if len(known) == len(rates)
        else None,
    )


def _sum(states: Sequence[SourceState], of: Callable[[SourceState], int | None]) -> int | None:
    numbers = [of(it) for it in states]
    return None if None in numbers else sum(it for it in numbers if it is not None)
