"""Requests as Terraform's provider makes them: signed without Host, bodies that end with a newline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import httpx

from engine.control.api.auth.signature import ALGORITHM, DATE_FORMAT, SignedRequest, sign
from tests.api.served import ACCESS, PROJECT, SECRET, ServedWorker

PATH = f"/v2/{PROJECT}/migration-tasks"


def signed(
    worker: ServedWorker,
    *,
    access: str = ACCESS,
    secret: str = SECRET,
    age_seconds: float = 0,
    body: bytes = b"",
    sent_body: bytes | None = None,
    method: str = "GET",
    path: str = PATH,
    query: dict[str, str | int] | None = None,
) -> httpx.Response:
    """Signed as Terraform's client does: neither Host nor X-Project-Id."""
    date = (datetime.now(UTC) - timedelta(seconds=age_seconds)).strftime(DATE_FORMAT)
    headers = {"accept": "application/json", "content-type": "application/json", "x-sdk-date": date}
    names = sorted(headers)
    request = SignedRequest(
        method=method,
        path=path.encode(),
        query=urlencode(query or {}).encode(),
        headers=headers,
        body=body,
    )
    value = sign(request, names, secret)
    headers["authorization"] = (
        f"{ALGORITHM} Access={access}, SignedHeaders={';'.join(names)}, Signature={value}"
    )
    headers["x-project-id"] = PROJECT
    content = body if sent_body is None else sent_body
    return httpx.request(
        method,
        f"{worker.url}{path}",
        params=query,
        headers=headers,
        content=content,
        trust_env=False,
        timeout=20,
    )
