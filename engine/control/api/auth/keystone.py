"""Tokens of OpenStack Keystone: asked for once, then remembered for a while."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import structlog

from engine.control.api.auth.auth_file import KeystoneSettings
from engine.control.api.auth.caller import Caller
from engine.control.api.errors import DcsError

log = structlog.get_logger("engine.api")

TIMEOUT_SECONDS = 5.0
CACHED_TOKENS = 10_000
TOKEN_LIMIT = 8192  # characters


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller | None  # None: Keystone knows the token, but it has no role that counts
    until: float  # monotonic seconds


class Keystone:
    """Asks `GET /v3/auth/tokens` about a token: its project, its roles, its end."""

    def __init__(self, settings: KeystoneSettings) -> None:
        self._settings = settings
        verify: ssl.SSLContext | bool = True
        if settings.ca_file is not None:
            verify = ssl.create_default_context(cafile=settings.ca_file)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=verify, trust_env=False)
        self._known: dict[bytes, _Known] = {}
        self._own_token: str | None = None
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def caller_of(self, token: str) -> Caller:
        """Who has this token.

        Raises:
            DcsError: the token is not valid, its roles are not enough, or Keystone does not answer (500).
        """
        if len(token) > TOKEN_LIMIT or not token.isascii():
            raise DcsError("DCS.1001")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None or known.until <= time.monotonic():
            known = await self._ask(token)
            if len(self._known) >= CACHED_TOKENS:
                self._known.clear()
            self._known[digest] = known
        if known.caller is None:
            raise DcsError("DCS.3003")
        return known.caller

    async def _ask(self, token: str) -> _Known:
        try:
            answer = await self._get_token(token)
        except httpx.HTTPError as error:
            log.error("keystone.unreachable", error=type(error).__name__)  # noqa: TRY400
            raise DcsError("DCS.5000") from None
        if answer.status_code in (401, 403, 404):
            raise DcsError("DCS.1001")
        if answer.status_code != 200:
            log.error("keystone.failed", status=answer.status_code)
            raise DcsError("DCS.5000")
        try:
            return self._known_of(answer.json()["token"])
        except (ValueError, KeyError, TypeError):
            log.error("keystone.answer_not_understood")  # noqa: TRY400
            raise DcsError("DCS.5000") from None

    def _known_of(self, token: dict[str, Any]) -> _Known:
        ends = datetime.fromisoformat(token["expires_at"])
        left_seconds = ends.timestamp() - time.time()
        if left_seconds <= 0:
            raise DcsError("DCS.1002")
        until = time.monotonic() + min(self._settings.cache_seconds, left_seconds)
        if "project" not in token:
            raise DcsError("DCS.1004")  # scoped to a domain or to nothing
        roles = {it["name"] for it in token.get("roles", [])}
        may_write = bool(roles & self._settings.roles)
        if not may_write and not roles & self._settings.read_roles:
            return _Known(None, until)
        caller = Caller(
            name=token["user"]["name"], project_id=token["project"]["id"], may_write=may_write
        )
        return _Known(caller, until)

    async def _get_token(self, token: str) -> httpx.Response:
        url = f"{self._settings.url}/auth/tokens"
        if self._settings.username is None:
            headers = {"X-Auth-Token": token, "X-Subject-Token": token}
            return await self._http.get(url, headers=headers)
        for attempt in (1, 2):
            own = await self._own(renew=attempt == 2)
            answer = await self._http.get(
                url, headers={"X-Auth-Token": own, "X-Subject-Token": token}
            )
            if answer.status_code != 401:
                return answer
        # Our own fresh token is refused: that is our trouble and not the caller's.
        raise httpx.HTTPError("Keystone refuses the service's own token")

    async def _own(self, *, renew: bool) -> str:
        async with self._asking:
            if self._own_token is None or renew:
                self._own_token = await self._log_in()
            return self._own_token

    async def _log_in(self) -> str:
        settings = self._settings
        user = {
            "name": settings.username,
            "password": settings.password,
            "domain": {"name": settings.user_domain},
        }
        project = {"name": settings.project, "domain": {"name": settings.project_domain}}
        answer = await self._http.post(
            f"{settings.url}/auth/tokens",
            json={
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": project},
                }
            },
        )
        token = answer.headers.get("X-Subject-Token")
        if answer.status_code != 201 or token is None:
            raise httpx.HTTPError("Keystone does not let the service in")
        return str(token)
