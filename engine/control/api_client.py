"""The command line as a client of the API: one HTTP call, authenticated, its errors as ours."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from engine.control.api.auth.signature import ALGORITHM, DATE_FORMAT, SignedRequest, sign
from engine.errors import ConfigError, EngineError

PREFIX = "REDIS_FERRY_API_"
DEFAULT_ENDPOINT = "http://127.0.0.1:8000"
DEFAULT_PROJECT = "local"
TIMEOUT_SECONDS = 30.0


class ServiceUnreachable(EngineError):
    """No connection to the service, or it broke."""


class ServiceRefused(EngineError):
    """The service refused the call (4xx); `code` is its error code."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, detail=code, hint=hint)
        self.code = code


class ServiceFailed(EngineError):
    """The service could not do it (5xx), or it is no service of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where the service is, and what lets us in: a token, or an access key, or nothing."""

    endpoint: str = DEFAULT_ENDPOINT
    project: str = DEFAULT_PROJECT
    token: str | None = field(default=None, repr=False)
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    tls_ca: Path | None = None


def read_login(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Login:
    """Flags win over REDIS_FERRY_API_* variables. Tokens and secrets have no flag: ps would show them.

    Raises:
        ConfigError.
    """

    def text(name: str) -> str | None:
        return flags.get(name) or environment.get(f"{PREFIX}{name.upper()}") or None

    token, token_file = text("token"), text("token_file")
    if token_file is not None:
        try:
            token = Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the token file {token_file}: {error}") from None
    endpoint = (text("endpoint") or DEFAULT_ENDPOINT).rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint cannot be {endpoint}", hint=f"like {DEFAULT_ENDPOINT}")
    access, secret = text("access_key"), text("secret_key")
    if (access is None) != (secret is None):
        raise ConfigError(f"{PREFIX}ACCESS_KEY and {PREFIX}SECRET_KEY belong together")
    ca = text("tls_ca")
    return Login(
        endpoint=endpoint,
        project=text("project") or DEFAULT_PROJECT,
        token=token,
        access_key=access,
        secret_key=secret,
        tls_ca=None if ca is None else Path(ca),
    )


class ApiClient:
    """Paths begin behind the project."""

    def __init__(self, login: Login) -> None:
        self._login = login
        verify: ssl.SSLContext | bool = True
        if login.tls_ca is not None:
            try:
                verify = ssl.create_default_context(cafile=str(login.tls_ca))
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"the CA file {login.tls_ca} cannot be used: {error}") from None
        self._http = httpx.Client(
            base_url=login.endpoint, timeout=TIMEOUT_SECONDS, verify=verify, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Make a call; returns the answer's JSON, None if there is none.

        Raises:
            ServiceUnreachable, ServiceRefused, ServiceFailed.
        """
        request = self._request(method, path, body, query)
        try:
            answer = self._http.send(request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        self._check(answer)
        return _json_of(answer) if answer.content else None

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Follow server-sent events: (kind, facts), until the stream ends.

        Raises:
            ServiceUnreachable, ServiceRefused, ServiceFailed.
        """
        request = self._request("GET", path, None, None)
        request.extensions["timeout"] = httpx.Timeout(TIMEOUT_SECONDS).as_dict()
        try:
            answer = self._http.send(request, stream=True)
            try:
                if answer.is_error:
                    answer.read()
                self._check(answer)
                kind = ""
                for line in answer.iter_lines():
                    name, _, rest = line.partition(": ")
                    if name == "event":
                        kind = rest
                    elif name == "data":
                        yield kind, json.loads(rest)
            finally:
                answer.close()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, Any] | None,
    ) -> httpx.Request:
        request = self._http.build_request(
            method,
            f"/v2/{self._login.project}{path}",
            json=body,
            params={name: value for name, value in (query or {}).items() if value is not None},
        )
        if self._login.token is not None:
            request.headers["X-Auth-Token"] = self._login.token
        elif self._login.access_key is not None and self._login.secret_key is not None:
            self._sign(request, self._login.access_key, self._login.secret_key)
        return request

    @staticmethod
    def _sign(request: httpx.Request, access: str, secret: str) -> None:
        request.headers["X-Sdk-Date"] = datetime.now(UTC).strftime(DATE_FORMAT)
        names = ["host", "x-sdk-date"]
        signed = SignedRequest(
            method=request.method,
            path=request.url.raw_path.split(b"?")[0],
            query=request.url.query,
            headers={name: request.headers[name] for name in names},
            body=request.content,
        )
        value = sign(signed, names, secret)
        request.headers["Authorization"] = (
            f"{ALGORITHM} Access={access}, SignedHeaders={';'.join(names)}, Signature={value}"
        )

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        found = _json_of(answer)
        if not isinstance(found, dict) or "error_code" not in found:
            raise self._stranger(answer)
        code, message = str(found["error_code"]), str(found.get("error_msg", ""))
        if answer.status_code >= 500:
            raise ServiceFailed(
                message, detail=f"{code}, request {answer.headers.get('x-request-id')}"
            )
        hint = ""
        if answer.status_code == 401:
            hint = (
                f"give a token with --token-file or {PREFIX}TOKEN, and its project with --project"
            )
        raise ServiceRefused(message.rstrip("."), code=code, hint=hint)

    def _stranger(self, answer: httpx.Response) -> ServiceFailed:
        return ServiceFailed(
            f"{self._login.endpoint} answered {answer.status_code}, not as redis-ferry serve does",
            hint="check --endpoint",
        )

    def _unreachable(self, error: httpx.HTTPError) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"cannot reach the service at {self._login.endpoint}: {error}",
            hint="start it with redis-ferry serve, or name another with --endpoint",
        )


def _json_of(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, UnicodeDecodeError):
        return None
