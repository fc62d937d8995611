"""The calls of the DCS v2 migration API. Paths have three prefixes: migration, migration-task, migration-tasks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, HTTPException, Response

from engine.control.api import answers, shapes
from engine.control.api.batches import each_task
from engine.control.api.errors import DcsError, bad_parameter
from engine.control.api.parameters import (
    ERRORS,
    JobId,
    LevelFilter,
    ListLimit,
    LogLimit,
    NameFilter,
    Offset,
    ProjectId,
    TaskId,
    TheApi,
)
from engine.control.api.requests import (
    ConfigureTask,
    Connectivity,
    CreateImport,
    CreateOnlineTask,
    DeleteTasks,
    ExchangeIp,
    TaskIds,
    UpdateTask,
)
from engine.service.journal import shown_row
from engine.service.orders import ExchangeOrder
from engine.service.record import MigrationType
from engine.settings import ResumeMode

router = APIRouter(prefix="/v2/{project_id}", responses=ERRORS, tags=["DCS migration API"])


@router.post("/migration/instance")
async def create_online_migration_task(
    api: TheApi, project_id: ProjectId, body: CreateOnlineTask
) -> shapes.CreatedTask:
    """Create an online migration task; configure it next."""
    record, job = await api.service.create(project_id, body.order())
    return shapes.CreatedTask(instance_id=record.task_id, job_id=job.job_id)


@router.post("/migration/{task_id}/task")
async def set_online_migration_task(
    api: TheApi, project_id: ProjectId, task_id: TaskId, body: ConfigureTask
) -> shapes.StartedTask:
    """Configure an online migration task and start it."""
    return answers.started(await api.service.configure(project_id, task_id, body.order()))


@router.post("/migration/{task_id}/connectivity", status_code=204)
async def check_migration_connectivity(
    api: TheApi, project_id: ProjectId, task_id: TaskId, body: Connectivity
) -> Response:
    """Log in to a server as a migration would."""
    trouble = await api.service.check_connectivity(project_id, task_id, body.choice())
    if trouble:
        raise DcsError("DCS.4049", reason=trouble.rstrip("."))
    return Response(status_code=204)


@router.post("/migration-task")
async def create_migration_task(
    api: TheApi, project_id: ProjectId, body: CreateImport
) -> shapes.StartedTask:
    """Import a backup file of the service's backup folder."""
    if body.migration_type is not MigrationType.BACKUP_IMPORT:
        raise bad_parameter("migration_type", "online tasks are made by POST migration/instance")
    if body.backup_files is None:
        raise bad_parameter("backup_files")
    return answers.started(await api.service.create_import(project_id, body.order()))


@router.get("/migration-tasks")
async def list_migration_task(
    api: TheApi,
    project_id: ProjectId,
    offset: Offset = 0,
    limit: ListLimit = 10,
    name: NameFilter = None,
) -> shapes.TaskList:
    """List tasks, newest first; an offset past the end gives an empty list."""
    count, records = api.service.catalog.page(
        project_id, name=name or None, offset=offset, limit=limit
    )
    rows = [answers.task_row(it, api.worker_ip) for it in records]
    return shapes.TaskList(count=count, migration_tasks=rows)


@router.api_route("/migration-task/batch-stop", methods=["GET", "PUT"], include_in_schema=False)
async def refuse_other_methods(project_id: ProjectId) -> None:
    """The next route would take `batch-stop` for a task's id."""
    del project_id
    raise HTTPException(405)


@router.get("/migration-task/{task_id}")
async def show_migration_task(
    api: TheApi, project_id: ProjectId, task_id: TaskId
) -> shapes.TaskDetail:
    """Show a task."""
    return answers.task_detail(api.service.catalog.get(project_id, task_id), api.worker_ip)


@router.get("/migration-task/{task_id}/stats")
async def show_migration_task_stats(
    api: TheApi, project_id: ProjectId, task_id: TaskId
) -> shapes.Stats:
    """Progress and pace of a task."""
    return answers.stats(api.service.figures(project_id, task_id))


@router.get("/migration-task/{task_id}/logs")
async def list_migration_task_logs(
    api: TheApi,
    project_id: ProjectId,
    task_id: TaskId,
    offset: Offset = 0,
    limit: LogLimit = 10,
    log_level: LevelFilter = None,
) -> shapes.LogList:
    """What happened to a task, newest first."""
    count, rows = await api.service.logs(
        project_id, task_id, level=log_level, offset=offset, limit=limit
    )
    entries = [shapes.LogEntry(**shown_row(it)) for it in rows]
    return shapes.LogList(log_num=count, migration_logs=entries)


@router.put("/migration-task/{task_id}", response_class=Response)
async def update_migration_task(
    api: TheApi, project_id: ProjectId, task_id: TaskId, body: UpdateTask | None = None
) -> Response:
    """Change what follows a lost link: `auto` (also the default) or `manual`."""
    mode = ResumeMode.AUTO if body is None or body.resume_mode is None else body.resume_mode
    await api.service.set_resume_mode(project_id, task_id, mode)
    return Response(status_code=200)


@router.post("/migration-task/{task_id}/stop")
async def stop_migration_task(
    api: TheApi, project_id: ProjectId, task_id: TaskId
) -> shapes.TaskDetail:
    """Stop a task; it is done when its status is TERMINATED."""
    return answers.task_detail(await api.service.stop(project_id, task_id), api.worker_ip)


@router.post("/migration-task/{task_id}/sync-stop", status_code=204)
async def stop_migration_task_sync(api: TheApi, project_id: ProjectId, task_id: TaskId) -> Response:
    """Stop a task; the answer comes when it has stopped."""
    await api.service.stop_and_wait(project_id, task_id)
    return Response(status_code=204)


@router.post("/migration-task/batch-stop")
async def batch_stop_migration_tasks(
    api: TheApi, project_id: ProjectId, body: TaskIds
) -> shapes.BatchAnswer:
    """Stop tasks; each is done when its status is TERMINATED."""
    return await each_task(api.service, project_id, body.migration_tasks, api.service.stop)


@router.post("/migration-tasks/batch-restart")
async def batch_restart_online_migration_tasks(
    api: TheApi, project_id: ProjectId, body: TaskIds
) -> shapes.BatchAnswer:
    """Start ended tasks again; incremental ones go on from their checkpoints."""
    return await each_task(api.service, project_id, body.migration_tasks, api.service.restart)


@router.delete("/migration-tasks/delete")
async def delete_migration_task(
    api: TheApi, project_id: ProjectId, body: Annotated[DeleteTasks, Body()]
) -> shapes.DeletedTasks:
    """Delete tasks that are not at work; unknown ones count as deleted."""
    await api.service.delete(project_id, body.task_id_list)
    return shapes.DeletedTasks(task_id_list=body.task_id_list)


@router.post("/migration-task/{task_id}/exchange-ip", status_code=204)
async def exchange_instance_ip(
    api: TheApi, project_id: ProjectId, task_id: TaskId, body: ExchangeIp | None = None
) -> Response:
    """Have the addresses of source and target exchanged; done when task_status is EXCHANGE_SUCCESS."""
    order = ExchangeOrder() if body is None else body.order()
    await api.service.exchanges.start(project_id, task_id, order)
    return Response(status_code=204)


@router.post("/migration-task/{task_id}/rollback-ip", status_code=204)
async def rollback_exchange_instance_ip(
    api: TheApi, project_id: ProjectId, task_id: TaskId
) -> Response:
    """Have the addresses exchanged back; done when task_status is ROLLBACK_SUCCESS."""
    await api.service.exchanges.start(project_id, task_id, None)
    return Response(status_code=204)


@router.get("/jobs/{job_id}")
async def show_job_info(api: TheApi, project_id: ProjectId, job_id: JobId) -> shapes.JobInfo:
    """Show the job that a create call has started."""
    return answers.job_info(await api.service.job(project_id, job_id))
