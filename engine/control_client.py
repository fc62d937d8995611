"""Control connections by redis-py and hiredis: INFO, probes, checkpoints. Never the data."""

from __future__ import annotations

import asyncio
import inspect

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from engine.endpoint import TLS_TIMEOUT_SHARE, Endpoint

# No CLIENT SETINFO, which old servers do not know; redis-py 7.2 renamed the way to say so.
_NAMELESS: dict[str, object] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(Redis.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


# How a question can fail. uvloop raises RuntimeError for a connection that was closed under redis-py's hands.
LOST = (RedisError, OSError, RuntimeError)

# redis-py takes the code off replies that it has an exception for.
_CODES: dict[type[RedisError], str] = {
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}


def control_client(endpoint: Endpoint, *, timeout_seconds: float) -> Redis:
    """A redis-py client for `endpoint`, RESP2, database 0, bytes in and out, no retries of its own."""
    common: dict[str, object] = {
        "username": endpoint.username,
        "password": endpoint.password,
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "single_connection_client": True,
        **_NAMELESS,
    }
    if endpoint.unix_path is not None:
        return Redis(unix_socket_path=endpoint.unix_path, **common)  # type: ignore[arg-type]
    if endpoint.tls is not None:
        tls = endpoint.tls
        common |= {
            # redis-py has one timeout for TCP and TLS together.
            "socket_connect_timeout": timeout_seconds * TLS_TIMEOUT_SHARE,
            "ssl": True,
            "ssl_ca_certs": None if tls.ca_file is None else str(tls.ca_file),
            "ssl_certfile": None if tls.cert_file is None else str(tls.cert_file),
            "ssl_keyfile": None if tls.key_file is None else str(tls.key_file),
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify,
        }
    return Redis(host=endpoint.host, port=endpoint.port, **common)  # type: ignore[arg-type]


def reply_text(error: RedisError) -> str:
    """The server's own words behind an error of redis-py's, its code first."""
    code, text = _CODES.get(type(error), ""), str(error)
    return text if text.startswith(code) else f"{code} {text}"


def raise_if_cancelled() -> None:
    """Raise the cancellation that redis-py lost.

    It sends through asyncio.wait_for, which in Python 3.11 swallows one that comes in the moment of success or
    failure. So both ways of a call whose errors are not passed on end here.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
