"""Requests that are malformed, oversized or slow get an answer that is documented, and disturb nobody."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.served import PROJECT, TOKEN, ServedWorker

pytestmark = pytest.mark.live
MIB = 1024 * 1024
PATH = f"/v2/{PROJECT}/migration/instance"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {TOKEN}\r\n"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWorker]:
    """A service that waits half a second for a request to arrive."""
    folder: Path = tmp_path_factory.mktemp("hasty")
    with ServedWorker(folder, "--request-timeout-seconds", "0.5") as served:
        yield served


def send_raw(worker: ServedWorker, *pieces: bytes, shut: bool = False) -> tuple[int, Any]:
    """Send bytes and read the whole answer: status and body; 0 if the connection was just closed."""
    host, port = worker.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            if shut:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has answered and closed before everything was sent
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
                head, _, body = found.partition(b"\r\n\r\n")
                lengths = [
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                if lengths and len(body) >= lengths[0]:
                    break
        except ConnectionResetError:
            pass
    if not found:
        return 0, None
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


def is_still_well(worker: ServedWorker) -> None:
    assert httpx.get(f"{worker.url}/healthz", trust_env=False).status_code == 200


def test_a_body_over_the_limit_is_413_whether_its_length_is_told_or_not(
    hasty: ServedWorker,
) -> None:
    told = f"{HEAD}Content-Length: {MIB + 1}\r\n\r\n".encode()
    status, body = send_raw(hasty, told)
    assert (status, body["error_code"]) == (413, "DCS.4800")

    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunks = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    status, body = send_raw(hasty, chunks, *[chunk] * 17)
    assert (status, body["error_msg"]) == (413, "Invalid body size in the request.")
    is_still_well(hasty)


def test_a_head_over_the_limit_is_431_whether_it_ends_or_not(hasty: ServedWorker) -> None:
    header = b"X-Long: " + b"a" * 70_000
    for pieces in ([HEAD.encode() + header + b"\r\n\r\n"], [HEAD.encode(), *[header] * 3]):
        status, body = send_raw(hasty, *pieces)
        assert (status, body["error_msg"]) == (431, "Invalid headers in the request.")
    is_still_well(hasty)


def test_a_head_or_a_body_that_does_not_come_is_408(hasty: ServedWorker) -> None:
    for pieces in (
        [b""],
        [b"GET / HT"],
        [HEAD.encode()],
        [f"{HEAD}Content-Length: 10\r\n\r\n{{".encode()],
    ):
        started = time.monotonic()
        status, body = send_raw(hasty, *pieces)
        assert (status, body["error_code"]) == (408, "DCS.4800"), pieces
        assert 0.3 < time.monotonic() - started < 5
    is_still_well(hasty)


def test_a_kept_connection_may_rest_and_its_next_request_has_its_own_time(
    hasty: ServedWorker,
) -> None:
    with httpx.Client(base_url=hasty.url, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        time.sleep(0.8)  # longer than a head may take: a pause between requests is none of its time
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        f"{HEAD}Content-Length: x\r\n\r\n".encode(),
        f"{HEAD}Content-Length: -1\r\n\r\n".encode(),
        f"{HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}".encode(),
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["tls", "words", "version", "length", "negative", "two lengths", "chunk", "path"],
)
def test_what_is_no_http_is_refused(hasty: ServedWorker, request_bytes: bytes) -> None:
    status, body = send_raw(hasty, request_bytes)

    assert status in (400, 404, 413), body
    assert body["error_code"] in ("DCS.4001", "DCS.4005", "DCS.4800")
    is_still_well(hasty)


def test_a_client_that_goes_away_is_forgotten(hasty: ServedWorker) -> None:
    for _ in range(20):
        with socket.create_connection(tuple(hasty.address.split(":")), timeout=5) as connection:  # type: ignore[arg-type]
            connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n{{".encode())

    is_still_well(hasty)
    assert "Traceback" not in hasty.log
