"""What is ours beside the DCS calls: live limit, events, lines, instances, health, versions, documentation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)

from engine.control.api import answers, shapes
from engine.control.api.docs_page import docs_page
from engine.control.api.event_stream import event_lines
from engine.control.api.parameters import (
    ERRORS,
    InstanceId,
    ListLimit,
    Offset,
    ProjectId,
    TaskId,
    TheApi,
)
from engine.control.api.requests import ChangeLimit
from engine.observability.exposition import CONTENT_TYPE
from engine.replay.cross_slot_list import read_cross_slot
from engine.replay.refused_keys import read_refused
from engine.service.refusals import StoreFailed

router = APIRouter(prefix="/v2/{project_id}", responses=ERRORS, tags=["redis-ferry's own"])
open_router = APIRouter(
    responses={code: ERRORS[code] for code in (400, 405, 408, 413, 500)}, tags=["Service"]
)

_V2 = {
    "id": "v2",
    "links": [{"href": "/v2/", "rel": "self"}],
    "min_version": "",
    "status": "CURRENT",
    "updated": "2016-12-09T00:00:00Z",
    "version": "",
}


@router.put("/migration-task/{task_id}/bandwidth-limit")
async def change_bandwidth_limit(
    api: TheApi, project_id: ProjectId, task_id: TaskId, body: ChangeLimit
) -> shapes.LimitAnswer:
    """Change the bandwidth limit of an incremental task while it runs; null lifts it."""
    record = await api.service.set_bandwidth_limit(project_id, task_id, body.bandwidth_limit_mb)
    limit = record.bandwidth_limit_mb
    return shapes.LimitAnswer(bandwidth_limit_mb=None if limit is None else str(limit))


@router.get("/migration-task/{task_id}/lines")
async def show_lines(api: TheApi, project_id: ProjectId, task_id: TaskId) -> shapes.LineList:
    """Offsets, lag, reconnects, resyncs and spool of each line of a task that is at work."""
    record = api.service.catalog.get(project_id, task_id)
    run = api.service.workers.run_of(task_id)
    status = None if run is None else run.status()
    lines = [] if status is None else answers.line_details(record, status)
    return shapes.LineList(lines=lines)


@router.get("/migration-task/{task_id}/not-applied")
async def list_not_applied(
    api: TheApi, project_id: ProjectId, task_id: TaskId, offset: Offset = 0, limit: ListLimit = 1000
) -> shapes.NotAppliedList:
    """List the keys and commands of a task that its target cannot hold (`serve --on-unsupported skip`)."""
    record = api.service.catalog.get(project_id, task_id)
    folder = api.service.workers.settings.folder_of(record.engine_task_id)
    total, rows = await asyncio.to_thread(read_refused, folder, offset=offset, limit=limit)
    return shapes.NotAppliedList(
        not_applied_num=total, not_applied=[shapes.NotAppliedRow(**row) for row in rows]
    )


@router.get("/migration-task/{task_id}/cross-slot")
async def list_cross_slot(
    api: TheApi, project_id: ProjectId, task_id: TaskId, offset: Offset = 0, limit: ListLimit = 1000
) -> shapes.CrossSlotEventList:
    """List the commands over several slots of a task's target cluster, and what became of each; the oldest first."""
    record = api.service.catalog.get(project_id, task_id)
    folder = api.service.workers.settings.folder_of(record.engine_task_id)
    total, rows = await asyncio.to_thread(read_cross_slot, folder, offset=offset, limit=limit)
    return shapes.CrossSlotEventList(
        cross_slot_num=total, cross_slot=[shapes.CrossSlotRow(**row) for row in rows]
    )


@router.get("/migration-task/{task_id}/preflight")
async def report_preflight(
    api: TheApi, project_id: ProjectId, task_id: TaskId
) -> shapes.PreflightReport:
    """Look at both servers of a configured task: what stands against the migration, and the remedies."""
    return answers.preflight_report(await api.service.preflight(project_id, task_id))


@router.get(
    "/migration-task/{task_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events."}},
)
async def follow_events(
    request: Request, api: TheApi, project_id: ProjectId, task_id: TaskId
) -> StreamingResponse:
    """Follow a task live: events `status`, `state`, `stats`, `log`, `exchange`, each with a JSON object."""
    record = api.service.catalog.get(project_id, task_id)
    lines: AsyncIterator[bytes] = event_lines(
        api.service.journal, record, is_gone=request.is_disconnected
    )
    return StreamingResponse(lines, media_type="text/event-stream")


@router.get("/instances")
async def list_instances(
    api: TheApi, project_id: ProjectId, offset: Offset = 0, limit: ListLimit = 1000
) -> shapes.InstanceList:
    """List the registered instances, which a task may name by id."""
    found = api.service.sides.instances.of_project(project_id)
    rows = [answers.instance_row(it) for it in found[offset : offset + limit]]
    return shapes.InstanceList(instance_num=len(found), instances=rows)


@router.get("/instances/{instance_id}")
async def show_instance(
    api: TheApi, project_id: ProjectId, instance_id: InstanceId
) -> shapes.InstanceRow:
    """Show a registered instance; never its password."""
    return answers.instance_row(api.service.sides.instances.get(project_id, instance_id))


@open_router.get("/")
async def list_versions() -> dict[str, Any]:
    """The API versions that there are."""
    return {"versions": [_V2]}


@open_router.get("/v2")
async def show_version() -> dict[str, Any]:
    """The API version 2."""
    return {"version": _V2}


@open_router.get("/healthz")
async def is_alive() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@open_router.get(
    "/readyz",
    responses={503: {"description": "The store does not answer.", "model": dict[str, str]}},
)
async def is_ready(api: TheApi) -> JSONResponse:
    """Whether the store answers too."""
    try:
        await api.service.ping()
    except StoreFailed:
        return JSONResponse({"status": "the store does not answer"}, status_code=503)
    return JSONResponse({"status": "ok"})


@open_router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def show_metrics(api: TheApi) -> Response:
    """What Prometheus scrapes: figures of all tasks by id, no names and no addresses."""
    return Response(api.metrics.text(), media_type=CONTENT_TYPE)


@open_router.get("/docs", include_in_schema=False)
async def show_docs(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page, without anything from elsewhere."""
    return HTMLResponse(docs_page(json.loads(json.dumps(request.app.openapi()))))
