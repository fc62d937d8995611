"""Control connections by redis-py and hiredis: INFO, probes, checkpoints. Never the data."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from engine.endpoint import TLS_TIMEOUT_SHARE, Endpoint

# No CLIENT SETINFO, which old servers do not know; redis-py 7.2 renamed the way to say so.
_NAMELESS: dict[str, object] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(Redis.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


# How a question can fail.
LOST = (RedisError, OSError)

# redis-py takes the code off replies that it has an exception for.
_CODES: dict[type[RedisError], str] = {
    AskError: "ASK",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}


class _Mapped(AbstractConnection):
    """uvloop raises RuntimeError for a connection that was closed under redis-py's hands: here it is a lost one."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """As redis-py's."""
        try:
            await super().send_packed_command(*args, **kwargs)
        except RuntimeError as error:
            raise await self._lost(error) from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's."""
        try:
            return await super().read_response(*args, **kwargs)
        except RuntimeError as error:
            raise await self._lost(error) from error

    async def ask(self, commands: bytes, replies: int) -> list[Any]:
        """See ask_many."""
        await self.send_packed_command(commands)
        is_answered = False
        try:
            # One limit for all, and nothing between hiredis and us: a pipeline of redis-py's takes 10 µs for each reply.
            async with asyncio.timeout(self.socket_timeout):
                read = self._parser.read_response  # type: ignore[attr-defined]
                found = [await read() for _ in range(replies)]
            is_answered = True
        except TimeoutError as error:
            raise RedisTimeoutError(f"no answer within {self.socket_timeout:g} s") from error
        except RuntimeError as error:
            raise await self._lost(error) from error
        finally:
            if not is_answered:  # the rest would be taken for the next answer
                await self.disconnect(nowait=True)
        return found

    async def can_read_destructive(self, *args: Any, **kwargs: Any) -> bool:
        """As redis-py's."""
        try:
            return bool(await super().can_read_destructive(*args, **kwargs))
        except RuntimeError as error:
            raise await self._lost(error) from error

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """As redis-py's."""
        with contextlib.suppress(RuntimeError):
            await super().disconnect(*args, **kwargs)

    async def _lost(self, error: RuntimeError) -> RedisConnectionError:
        await self.disconnect()
        return RedisConnectionError(f"the connection was closed: {error}")


class _Tcp(_Mapped, Connection):
    pass


class _Tls(_Mapped, SSLConnection):
    pass


class _Unix(_Mapped, UnixDomainSocketConnection):
    pass


def control_client(endpoint: Endpoint, *, timeout_seconds: float) -> Redis:
    """A redis-py client for `endpoint`, RESP2, database 0, bytes in and out, no retries of its own."""
    kind: type[AbstractConnection] = _Tcp
    options: dict[str, Any] = {
        "username": endpoint.username,
        "password": endpoint.password,
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        **_NAMELESS,
    }
    if endpoint.unix_path is not None:
        kind = _Unix
        options["path"] = endpoint.unix_path
    else:
        options |= {"host": endpoint.host, "port": endpoint.port}
    if endpoint.tls is not None:
        tls = endpoint.tls
        kind = _Tls
        options |= {
            # redis-py has one timeout for TCP and TLS together.
            "socket_connect_timeout": timeout_seconds * TLS_TIMEOUT_SHARE,
            "ssl_ca_certs": None if tls.ca_file is None else str(tls.ca_file),
            "ssl_certfile": None if tls.cert_file is None else str(tls.cert_file),
            "ssl_keyfile": None if tls.key_file is None else str(tls.key_file),
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify,
        }
    client = Redis(
        connection_pool=ConnectionPool(connection_class=kind, **options),
        single_connection_client=True,
    )
    client.auto_close_connection_pool = True
    return client


async def ask_many(client: Redis, commands: bytes, replies: int) -> list[Any]:
    """Send encoded commands in one piece; their replies, error replies (RedisError) among them, not raised.

    client: made by control_client.
    Raises:
        redis.exceptions.ConnectionError (so is LOADING), TimeoutError: not all have come.
    """
    await client.initialize()
    assert isinstance(client.connection, _Mapped)
    return await client.connection.ask(commands, replies)


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
