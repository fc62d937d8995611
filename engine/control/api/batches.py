"""Calls for several tasks at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.control.api.errors import DcsError, error_of
from engine.control.api.shapes import BatchAnswer, BatchResult
from engine.service.record import TaskRecord
from engine.service.refusals import Refusal, TaskUnknown
from engine.service.service import MigrationService


async def each_task(
    service: MigrationService,
    project_id: str,
    task_ids: list[str],
    call: Callable[[str, str], Awaitable[TaskRecord]],
) -> BatchAnswer:
    """Make one call for each task and say what became of it.

    Raises:
        DcsError: none of the tasks exists in this project.
    """
    if not any(_exists(service, project_id, it) for it in task_ids):
        raise DcsError("DCS.4855")
    return BatchAnswer(migration_tasks=[await _one(call, project_id, it) for it in task_ids])


async def _one(
    call: Callable[[str, str], Awaitable[TaskRecord]], project_id: str, task_id: str
) -> BatchResult:
    try:
        await call(project_id, task_id)
    except Refusal as refusal:
        error = error_of(refusal)
        return BatchResult(
            task_id=task_id, result="failed", error_code=error.code, error_msg=error.message
        )
    return BatchResult(task_id=task_id, result="success")


def _exists(service: MigrationService, project_id: str, task_id: str) -> bool:
    try:
        service.catalog.get(project_id, task_id)
    except TaskUnknown:
        return False
    return True
