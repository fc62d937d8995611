"""The signature of requests, as a pure function."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.control.api.auth import signature
from engine.control.api.auth.lockout import FAILURES, LOCKED_SECONDS, Lockout
from engine.control.api.auth.signature import Signature, SignatureRefused, SignedRequest

# What the real SDK sent for these inputs, secret SKTEST.
BODY = (
    b'{"migration_method": "incremental_migration", "resume_mode": "auto", "bandwidth_limit_mb": "100", '
    b'"source_instance": {"addrs": "127.0.0.1:6379"}, '
    b'"target_instance": {"addrs": "127.0.0.1:6380", "password": "secretpw"}}'
)
REQUEST: dict[str, Any] = {
    "method": "POST",
    "path": b"/v2/0123456789abcdef0123456789abcdef/migration/acc361ad-3baf-4c69-b692-efe1a57b5c3c/task",
    "query": b"",
    "headers": {
        "user-agent": "huaweicloud-usdk-python/3.0; sdk-client-probe",
        "content-type": "application/json;charset=utf-8",
        "x-project-id": "0123456789abcdef0123456789abcdef",
        "x-sdk-date": "20261123T152009Z",
        "host": "127.0.0.1:8123",
        "accept": "*/*",
    },
    "body": BODY,
}
NAMES = ("content-type", "host", "user-agent", "x-project-id", "x-sdk-date")
EXPECTED = "36785cc7d4e259a62e68442c0d35ff440fabd3f4d0c7b86180dd8896c9f4c1c4"
NOW = datetime(2026, 11, 23, 15, 20, 9, tzinfo=UTC)


def request(**changes: Any) -> SignedRequest:
    return SignedRequest(**REQUEST | changes)


def test_the_vector_of_the_real_sdk_is_right() -> None:
    assert hashlib.sha256(BODY).hexdigest().startswith("d7bf4092")
    assert signature.sign(request(), NAMES, "SKTEST") == EXPECTED
    assert signature.is_right(request(), Signature("AKTEST", NAMES, EXPECTED), "SKTEST")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": REQUEST["path"] + b"x"},
        {"query": b"a=1"},
        {"body": BODY + b"\n"},
        {"headers": REQUEST["headers"] | {"host": "127.0.0.1:8124"}},
        {"headers": REQUEST["headers"] | {"x-sdk-date": "20261123T152010Z"}},
    ],
    ids=["method", "path", "query", "body", "header", "date"],
)
def test_whatever_is_signed_cannot_be_changed(changes: dict[str, Any]) -> None:
    assert not signature.is_right(
        request(**changes), Signature("AKTEST", NAMES, EXPECTED), "SKTEST"
    )


def test_what_is_not_signed_may_be_changed_on_the_way() -> None:
    changed = request(headers=REQUEST["headers"] | {"accept": "text/html"})

    assert signature.is_right(changed, Signature("AKTEST", NAMES, EXPECTED), "SKTEST")


def test_path_and_query_are_signed_in_one_spelling() -> None:
    one = request(path=b"/v2/p/a%7Eb", query=b"name=a%20b&limit=10&empty")
    other = request(path=b"/v2/p/a~b/", query=b"empty=&limit=10&name=%61 b")

    assert signature.sign(one, NAMES, "s") == signature.sign(other, NAMES, "s")


def test_the_header_is_read() -> None:
    text = f"SDK-HMAC-SHA256 Access=AKTEST, SignedHeaders=Host;x-sdk-date, Signature={EXPECTED}"

    assert signature.parse_authorization(text) == Signature(
        "AKTEST", ("host", "x-sdk-date"), EXPECTED
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Basic dXNlcjpwYXNz",
        "SDK-HMAC-SM3 Access=A, SignedHeaders=host, Signature=" + EXPECTED,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host, Signature=abc",
        "SDK-HMAC-SHA256 SignedHeaders=host, Signature=" + EXPECTED,
        "SDK-HMAC-SHA256 Access=, SignedHeaders=host, Signature=" + EXPECTED,
    ],
)
def test_another_header_is_refused(text: str) -> None:
    with pytest.raises(SignatureRefused):
        signature.parse_authorization(text)


@pytest.mark.parametrize("seconds", [-899, 0, 899])
def test_a_clock_may_be_a_quarter_of_an_hour_off(seconds: int) -> None:
    signature.check_date("20261123T152009Z", NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-901, 901, 3600])
def test_an_old_request_is_refused(seconds: int) -> None:
    with pytest.raises(SignatureRefused, match="too far"):
        signature.check_date("20261123T152009Z", NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("text", ["", "now", "2026-11-23T15:20:09Z", "20261399T152009Z"])
def test_a_date_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SignatureRefused, match="malformed"):
        signature.check_date(text, NOW)


@pytest.mark.parametrize(
    ("declared", "is_right"),
    [(None, True), (hashlib.sha256(BODY).hexdigest(), True), ("UNSIGNED-PAYLOAD", False)],
)
def test_a_declared_body_hash_must_be_the_bodys(declared: str | None, is_right: bool) -> None:
    headers = {} if declared is None else {"x-sdk-content-sha256": declared}

    assert signature.body_hash_is_right(request(headers=headers)) is is_right


def test_the_fifth_failure_in_a_row_locks_for_five_minutes() -> None:
    lockout = Lockout()
    for _ in range(FAILURES - 1):
        lockout.note_failure("AK", 100.0)
    assert not lockout.is_locked("AK", 100.0)

    lockout.note_failure("AK", 100.0)

    assert lockout.is_locked("AK", 100.0)
    assert lockout.is_locked("AK", 100.0 + LOCKED_SECONDS - 1)
    assert not lockout.is_locked("AK", 100.0 + LOCKED_SECONDS)
    assert not lockout.is_locked("another", 100.0)


def test_a_success_takes_the_failures_back() -> None:
    lockout = Lockout()
    for _ in range(FAILURES - 1):
        lockout.note_failure("AK", 100.0)
    lockout.note_success("AK")
    lockout.note_failure("AK", 100.0)

    assert not lockout.is_locked("AK", 100.0)
