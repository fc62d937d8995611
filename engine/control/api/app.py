"""The HTTP application: routes, errors, and the gate around them."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from engine import __version__
from engine.control.api import routes_dcs, routes_ours
from engine.control.api.auth.authenticator import Authenticator
from engine.control.api.errors import DcsError, bad_parameter, error_of
from engine.control.api.gate import Gate, RequestLimits
from engine.control.api.parameters import Api
from engine.service.refusals import Refusal, StoreFailed

log = structlog.get_logger("engine.api")

DESCRIPTION = (
    "The DCS v2 data-migration API, served by redis-ferry, and calls of its own beside it. "
    "Authenticate with X-Auth-Token or an SDK-HMAC-SHA256 signature."
)

_ROUTERS = (routes_dcs.router, routes_ours.router, routes_ours.open_router)


def make_app(api: Api, *, authenticator: Authenticator, limits: RequestLimits) -> Gate:
    """Build the application."""
    app = FastAPI(
        title="redis-ferry",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # clients of this API do not follow redirects
        strict_content_type=False,  # the Content-Type may be absent
    )
    app.state.api = api
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(DcsError, _on_dcs_error)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(StoreFailed, _on_store_failed)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    _document_authentication(app)
    return Gate(app, authenticator=authenticator, limits=limits)


def _answer(
    request: Request, error: DcsError, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = error.body(request.state.request_id)
    return JSONResponse(body, status_code=error.http_status, headers=headers)


async def _on_dcs_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DcsError)
    return _answer(request, error)


async def _on_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return _answer(request, error_of(error))


async def _on_store_failed(request: Request, error: Exception) -> JSONResponse:
    log.error("store.failed", error=str(error), path=request.url.path)
    return _answer(request, DcsError("DCS.5000"))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(request, _validation_error(request, error.errors()[0]))


def _validation_error(request: Request, first: Any) -> DcsError:
    kind = str(first["type"])
    where, *path = (str(it) for it in first["loc"])
    if kind == "json_invalid":
        return DcsError("DCS.4005")
    if where == "body" and not path:
        return DcsError("DCS.4004" if kind == "missing" else "DCS.4005")
    if kind == "too_long" and path == ["migration_tasks"]:
        return DcsError("DCS.4100")
    # Positions in lists are of no use to a reader who sees one message.
    name = ".".join(it for it in path if not it.isdigit())
    if name == "resume_mode" and request.method == "PUT":
        return DcsError("111400063", name)  # as that page has it
    return bad_parameter(name)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _answer(request, DcsError("DCS.5001"), {"Allow": ", ".join(_methods_at(request))})
    if error.status_code == 404:
        return _answer(request, DcsError("DCS.4001"))
    return _answer(request, DcsError("DCS.4005"))  # the body could not be parsed at all


def _methods_at(request: Request) -> list[str]:
    """All methods of a path; a route knows only its own. What has no parameter there wins over what has one."""
    found: dict[str, set[str]] = {}
    for router in _ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path_regex.match(request.url.path):
                found.setdefault(route.path, set())
                if route.include_in_schema:
                    found[route.path] |= route.methods or set()
    return sorted(found[min(found, key=lambda path: path.count("{"))]) if found else []


def _document_authentication(app: FastAPI) -> None:
    document = app.openapi()
    document["components"]["securitySchemes"] = {
        "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…",
        },
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)  # a bad request is 400 here
            if path.startswith("/v2/"):
                operation["security"] = [{"token": []}, {"signature": []}]
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
