"""What the routes take from a request: parameters of path and query, the service itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from engine.control.api.requests import UUID
from engine.control.api.shapes import ErrorBody
from engine.observability.metrics import Metrics
from engine.service.instances import INSTANCE_ID
from engine.service.record import LogLevel
from engine.service.service import MigrationService

LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes work with. worker_ip: shown as the migration machine's address. metrics: of this process."""

    service: MigrationService
    worker_ip: str
    metrics: Metrics


async def _api(
    request: Request,
) -> Api:  # async: others run in a thread of their own, which takes time
    api: Api = request.app.state.api
    return api


TheApi = Annotated[Api, Depends(_api)]
ProjectId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The project.")]
TaskId = Annotated[str, Path(pattern=UUID, description="The task.")]
JobId = Annotated[str, Path(pattern=UUID, description="The job.")]
InstanceId = Annotated[
    str, Path(pattern=f"^{INSTANCE_ID.pattern}$", description="A registered instance.")
]
Offset = Annotated[int, Query(ge=0, le=LARGEST, description="How many to leave out.")]
ListLimit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
LogLimit = Annotated[int, Query(ge=0, le=LARGEST, description="How many at most.")]
NameFilter = Annotated[str | None, Query(max_length=255, description="This very name.")]
LevelFilter = Annotated[LogLevel | None, Query(description="This level only.")]


def _error(description: str) -> dict[str, Any]:
    return {"model": ErrorBody, "description": description}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _error("The request cannot be carried out; error_code says why."),
    401: _error("Not authenticated."),
    403: _error("Not permitted."),
    404: _error("No such URL or instance."),
    405: _error("No such method here."),
    408: _error("The request took too long to arrive."),
    413: _error("The request is too large."),
    500: _error("A failure of the service or its store."),
}
