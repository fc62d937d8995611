"""Gathers the facts of both servers and of this machine, at the same time where that is possible."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from engine.cluster.places import place_of
from engine.errors import EngineError
from engine.preflight.facts import Facts, Plan, SpoolDisk, TargetState
from engine.preflight.source_shards import ask_source_or_shards
from engine.preflight.target_shards import ask_target_or_shards
from engine.settings import TaskSettings


async def gather_facts(settings: TaskSettings, *, sample_seconds: float) -> Facts:
    """Ask everything. Nothing is changed on either side; never raises.

    sample_seconds: how long the source's write rate is measured; 0: take its own figure and do not wait, nor
    search the target for other tasks' checkpoints.
    """
    source = await ask_source_or_shards(
        settings.read_server or settings.source,
        timeout_seconds=settings.source_link.connect_timeout_seconds,
        sample_seconds=sample_seconds,
        reader=settings.source_reader,
    )
    try:
        settings = replace(settings, target=await place_of(settings.target, role="target").locate())
    except EngineError as error:
        target = TargetState(endpoint=settings.target, error=error, has_info=False)
        return Facts(plan=_plan(settings), source=source, target=target, disk=None)
    target = await ask_target_or_shards(
        settings,
        target_databases=settings.selection.mapped(source.keys),
        looks_for_tasks=sample_seconds > 0,
    )
    spool = settings.spool
    disk = None
    if spool.directory is not None and spool.disk_bytes:
        disk = await asyncio.to_thread(look_at_disk, spool.directory, spool.disk_bytes)
    return Facts(plan=_plan(settings), source=source, target=target, disk=disk)


def _plan(settings: TaskSettings) -> Plan:
    spool = settings.spool
    return Plan(
        task_id=settings.task_id,
        method=settings.method,
        reader=settings.source_reader,
        on_conflict=settings.on_conflict,
        field_ttls=settings.field_ttls,
        selection=settings.selection,
        limit_bytes_per_second=settings.bandwidth_limit_bytes_per_second,
        spool_memory_bytes=spool.memory_bytes,
    )


def look_at_disk(folder: Path, budget_bytes: int) -> SpoolDisk:
    """Free space where the spool would be; the folder itself need not be there yet."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    shown = str(folder)
    try:
        found = os.statvfs(existing)
    except OSError as error:
        return SpoolDisk(
            folder=shown, budget_bytes=budget_bytes, error=error.strerror or str(error)
        )
    if not existing.is_dir():
        return SpoolDisk(
            folder=shown, budget_bytes=budget_bytes, error=f"{existing} is not a folder"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        return SpoolDisk(
            folder=shown, budget_bytes=budget_bytes, error=f"{existing} may not be written to"
        )
    return SpoolDisk(
        folder=shown, budget_bytes=budget_bytes, free_bytes=found.f_bavail * found.f_frsize
    )
