"""Decides who asks, from the headers of a request."""

from __future__ import annotations

import hashlib
import hmac
import time
from datetime import UTC, datetime

from engine.control.api.auth import signature
from engine.control.api.auth.auth_file import AccessKey, AuthSettings, StaticToken
from engine.control.api.auth.caller import ANYONE, Caller
from engine.control.api.auth.keystone import Keystone
from engine.control.api.auth.lockout import Lockout
from engine.control.api.auth.signature import SignatureRefused, SignedRequest
from engine.control.api.errors import DcsError

# Stands in for an unknown key's secret, so that an unknown key takes as long as a wrong signature.
_NO_SECRET = "0" * 40


class Authenticator:
    """Without settings everybody is let in (and the service listens on loopback only)."""

    def __init__(self, settings: AuthSettings | None) -> None:
        self._settings = settings
        self._tokens: dict[bytes, StaticToken] = {}
        self._keys: dict[str, AccessKey] = {}
        self._keystone: Keystone | None = None
        self._lockout = Lockout()
        if settings is not None:
            # Looked up by hash: a look-up by the token itself would tell by its time how much is right.
            self._tokens = {_digest(it.token): it for it in settings.tokens}
            self._keys = {it.access: it for it in settings.keys}
            if settings.keystone is not None:
                self._keystone = Keystone(settings.keystone)

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return self._settings is None

    async def close(self) -> None:
        """Close what is open."""
        if self._keystone is not None:
            await self._keystone.close()

    async def caller_of(self, request: SignedRequest) -> Caller:
        """Who asks.

        Raises:
            DcsError: 401 without valid proof, 403 where a Keystone token has no role that counts.
        """
        if self._settings is None:
            return ANYONE
        token = request.headers.get("x-auth-token")
        if token:
            return await self._caller_of_token(token)
        authorization = request.headers.get("authorization")
        if authorization:
            try:
                return self._caller_of_signature(authorization, request)
            except SignatureRefused as refused:
                raise DcsError("APIGW.0301", str(refused)) from None
        raise DcsError("DCS.1003")

    async def _caller_of_token(self, token: str) -> Caller:
        found = self._tokens.get(_digest(token))
        if found is not None:
            if found.expires_at is not None and found.expires_at <= datetime.now(UTC):
                raise DcsError("DCS.1002")
            return Caller(name=found.name, project_id=found.project_id, may_write=found.may_write)
        if self._keystone is not None:
            return await self._keystone.caller_of(token)
        raise DcsError("DCS.1001")

    def _caller_of_signature(self, authorization: str, request: SignedRequest) -> Caller:
        given = signature.parse_authorization(authorization)
        key = self._keys.get(given.access)
        now = time.monotonic()
        if key is not None and self._lockout.is_locked(key.access, now):
            raise SignatureRefused("AK access failed to reach the limit,forbidden")
        signature.check_date(request.headers.get("x-sdk-date", ""), datetime.now(UTC))
        is_right = signature.is_right(request, given, _NO_SECRET if key is None else key.secret)
        if key is None:
            raise SignatureRefused("Get secretKey failed")
        if not is_right or not signature.body_hash_is_right(request):
            self._lockout.note_failure(key.access, now)
            raise SignatureRefused("verify aksk signature fail")
        self._lockout.note_success(key.access)
        return Caller(name=key.access, project_id=key.project_id, may_write=key.may_write)


def _digest(token: str) -> bytes:
    return hmac.new(b"redis-ferry", token.encode("utf-8", "replace"), hashlib.sha256).digest()
