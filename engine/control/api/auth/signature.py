"""Signatures of requests by access keys, SDK-HMAC-SHA256. Pure: the clock comes from outside.

The canonical request is method, path, query, the headers that were signed, their names and the body's hash,
each on its line. The signature is an HMAC with the secret key over algorithm, date and that request's hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "SDK-HMAC-SHA256"
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
CLOCK_WINDOW_SECONDS = 900.0
_UNRESERVED = "-_.~"
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Access=([^\s,]{{1,128}}), *SignedHeaders=([^\s,]{{1,4096}}), *Signature=([0-9a-f]{{64}})"
)


class SignatureRefused(Exception):
    """Why a signature is not accepted, in a few words for the client."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The parts of an Authorization header."""

    access: str
    signed_headers: tuple[str, ...]
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequest:
    """What a signature covers. path, query: as they came. headers: names in lower case."""

    method: str
    path: bytes
    query: bytes
    headers: dict[str, str]
    body: bytes


def parse_authorization(text: str) -> Signature:
    """Read the header.

    Raises:
        SignatureRefused: of another form or algorithm.
    """
    found = _AUTHORIZATION.fullmatch(text.strip())
    if found is None:
        raise SignatureRefused("verify aksk signature fail, the Authorization header is malformed")
    names = tuple(name.lower() for name in found[2].split(";") if name)
    return Signature(access=found[1], signed_headers=names, value=found[3])


def check_date(text: str, now: datetime) -> None:
    """Whether the request's date is near enough.

    Raises:
        SignatureRefused.
    """
    try:
        date = datetime.strptime(text, DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise SignatureRefused(
            "verify aksk signature fail, X-Sdk-Date is missing or malformed"
        ) from None
    if abs((now - date).total_seconds()) > CLOCK_WINDOW_SECONDS:
        raise SignatureRefused(
            "verify aksk signature fail, X-Sdk-Date is too far from the server's time"
        )


def is_right(request: SignedRequest, signature: Signature, secret: str) -> bool:
    """Whether the signature is that of this request with this secret; takes the same time either way."""
    return hmac.compare_digest(sign(request, signature.signed_headers, secret), signature.value)


def sign(request: SignedRequest, signed_headers: Iterable[str], secret: str) -> str:
    """The signature of a request, 64 hex digits. Its headers hold `x-sdk-date`."""
    names = sorted(signed_headers)
    canonical = "\n".join(
        [
            request.method.upper(),
            _canonical_path(request.path),
            _canonical_query(request.query),
            "".join(f"{name}:{request.headers.get(name, '').strip()}\n" for name in names),
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    text = "\n".join(
        [
            ALGORITHM,
            request.headers.get("x-sdk-date", ""),
            hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest(),
        ]
    )
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def body_hash_is_right(request: SignedRequest) -> bool:
    """Whether a hash that the client has declared is the body's; without one there is nothing to compare."""
    declared = request.headers.get("x-sdk-content-sha256")
    return declared is None or hmac.compare_digest(
        declared.lower().encode("utf-8", "replace"),
        hashlib.sha256(request.body).hexdigest().encode(),
    )


def _canonical_path(path: bytes) -> str:
    encoded = "/".join(quote(unquote_to_bytes(part), safe=_UNRESERVED) for part in path.split(b"/"))
    return encoded if encoded.endswith("/") else f"{encoded}/"


def _canonical_query(query: bytes) -> str:
    pairs = []
    for part in query.split(b"&"):
        if part:
            key, _, value = part.partition(b"=")
            pairs.append(
                tuple(quote(unquote_to_bytes(it), safe=_UNRESERVED) for it in (key, value))
            )
    return "&".join(f"{key}={value}" for key, value in sorted(pairs))
