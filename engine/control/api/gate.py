"""What every request passes before the routes: limits of size and time, proof of who asks, a request id."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog

from engine.control.api.auth.authenticator import Authenticator
from engine.control.api.auth.caller import Caller
from engine.control.api.auth.signature import SignedRequest
from engine.control.api.errors import DcsError

log = structlog.get_logger("engine.api")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PROJECT = re.compile(r"/v2/([^/]+)/")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """body_bytes: of a request. body_seconds: for it to arrive."""

    body_bytes: int = 1024 * 1024
    body_seconds: float = 30.0


class Gate:
    """An ASGI application around the routes."""

    def __init__(self, app: App, *, authenticator: Authenticator, limits: RequestLimits) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is not one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        has_started = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                message = dict(message)
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        try:
            body = await self._read_body(scope, receive)
            scope["state"]["caller"] = await self._let_in(scope, body)
            await self._app(scope, _replayed(body, receive), send_with_id)
        except DcsError as error:
            await _send_error(error, request_id, send_with_id)
        except _ClientWentAway:
            pass
        except Exception as error:
            log.exception(
                "request.failed", path=scope["path"], request_id=request_id, error=repr(error)
            )
            if not has_started:
                await _send_error(DcsError("DCS.5000"), request_id, send_with_id)

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > limit):
                raise DcsError("DCS.4800", "body size", http_status=413)
        body = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientWentAway
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise DcsError("DCS.4800", "body size", http_status=413)
                    if not message.get("more_body", False):
                        return bytes(body)
        raise DcsError("DCS.4800", "body, which took too long,", http_status=408)

    async def _let_in(self, scope: Scope, body: bytes) -> Caller | None:
        """Who asks; None where nobody needs to say so.

        Raises:
            DcsError: 401, 403.
        """
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if self._authenticator.is_open:
            _refuse_web_pages(headers)
        if not scope["path"].startswith("/v2/"):
            return None
        caller = await self._authenticator.caller_of(
            SignedRequest(
                method=scope["method"],
                path=scope["raw_path"],
                query=scope["query_string"],
                headers=headers,
                body=body,
            )
        )
        found = _PROJECT.match(scope["path"])
        if found and caller.project_id is not None and found[1] != caller.project_id:
            raise DcsError("DCS.1004")
        if not caller.may_write and scope["method"] not in _READING:
            raise DcsError("DCS.3002")
        return caller


class _ClientWentAway(Exception):
    pass


def _replayed(body: bytes, receive: Receive) -> Receive:
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _refuse_web_pages(headers: dict[str, str]) -> None:
    """Whoever can reach loopback is let in, and that includes every page in this machine's browser.

    A page of another site says so in `Origin`; one whose name was made to point here, in `Host`.
    """
    origin = headers.get("origin")
    is_ours = origin is None or _is_here(origin)
    if not is_ours or not _is_here(f"//{headers.get('host', 'localhost')}"):
        raise DcsError("DCS.3003")


def _is_here(url: str) -> bool:
    try:
        host = urlsplit(url).hostname
        return host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:  # no URL, or a name
        return False


async def _send_error(error: DcsError, request_id: str, send: Send) -> None:
    body = json.dumps(error.body(request_id)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if error.http_status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the request is not read
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
