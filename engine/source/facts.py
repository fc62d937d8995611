"""What a source says of itself over a control connection: INFO, where it is permitted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from engine.connect import connect_hint
from engine.control_client import LOST, control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import SourceUnreachable
from engine.position import Position

log = structlog.get_logger("engine.source")

MOMENTS_SINCE = (7, 0)  # PEXPIRETIME


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a source can send again: the bytes from `first` on, up to before `end`, of its stream. end -1: it keeps none.

    replid: the stream's name; earlier: the one before, which holds up to offset `earlier_end` (a promoted replica's).
    """

    replid: str
    first: int
    end: int
    earlier: str = ""
    earlier_end: int = -1

    def reaches(self, position: Position) -> bool:
        """Whether a PSYNC from there is answered with +CONTINUE (replication.c, masterTryPartialResynchronization)."""
        asked = position.offset + 1
        is_same = position.replid == self.replid or (
            position.replid == self.earlier and asked <= self.earlier_end
        )
        return is_same and self.first <= asked <= self.end


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source at one moment.

    offset: the newest byte of its replication stream, -1 where INFO is not permitted. clock_offset_ms: the
    source's clock minus ours, 0 where TIME is not permitted.
    """

    version: str
    offset: int
    is_cluster: bool
    clock_offset_ms: int = 0
    repl_timeout_seconds: int = 0  # 0 where CONFIG GET is not permitted
    run_id: str = ""
    replid: str = ""
    is_silent: bool = False  # INFO is not permitted
    is_replica: bool = False
    backlog: Backlog | None = None  # None: it is not told

    @property
    def tells_moments(self) -> bool:
        """Whether it has PEXPIRETIME."""
        numbers = tuple(int(it) for it in self.version.split(".")[:2] if it.isdigit())
        return numbers >= MOMENTS_SINCE


class SourceWatch:
    """A control connection kept open, to ask again and again.

    synced_offset: of a reader that stands for a source: where in its stream everything is that the source had when the
    snapshot ended; -1 while that is not known, and for a server.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_seconds: float) -> None:
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._client: Redis = control_client(endpoint, timeout_seconds=timeout_seconds)
        self.synced_offset = -1

    async def _renew(self, error: Exception) -> None:
        """Begin with a new connection after one that broke."""
        if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
            await self.close()
            self._client = control_client(self._endpoint, timeout_seconds=self._timeout_seconds)

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*LOST):
            await self._client.aclose()

    async def ask_first(self) -> SourceFacts:
        """All facts with the clock, as `ask`.

        Raises:
            SourceUnreachable: no connection, so the replica link need not try for as long again.
        """
        try:
            await self._client.ping()
        except (AuthenticationError, BusyLoadingError):
            pass  # it answers; the handshake says what is wrong
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            await self._renew(error)
            raise SourceUnreachable(
                f"cannot connect to the source {self._endpoint.address}: {error}",
                hint=connect_hint(self._endpoint, "source", str(error)),
            ) from error
        except RedisError as error:
            log.debug("source.ping_failed", error=str(error))
        raise_if_cancelled()
        return await self.ask(with_clock=True)

    async def ask(self, *, with_clock: bool = False) -> SourceFacts:
        """All facts; unknown ones empty. Never raises for a source that does not answer."""
        try:
            info = await self._client.info()
        except LOST as error:
            raise_if_cancelled()
            await self._renew(error)
            log.debug("source.info_failed", error=str(error))
            return SourceFacts("", -1, is_cluster=False, is_silent=True)
        raise_if_cancelled()
        clock_offset_ms = await self._ask_clock() if with_clock else 0
        repl_timeout_seconds = await self._ask_repl_timeout() if with_clock else 0
        return SourceFacts(
            clock_offset_ms=clock_offset_ms,
            repl_timeout_seconds=repl_timeout_seconds,
            version=str(info.get("valkey_version") or info.get("redis_version", "")),
            offset=_offset_in(info),
            is_cluster=bool(info.get("cluster_enabled")),
            run_id=str(info.get("run_id", "")),
            replid=str(info.get("master_replid", "")),
            is_replica=info.get("role") == "slave",
            backlog=backlog_in(info),
        )

    async def ask_offset(self) -> int:
        """The newest byte of its replication stream; -1 where it does not say. Cheap: ask once a second."""
        try:
            info = await self._client.info("replication")
        except LOST as error:
            raise_if_cancelled()
            await self._renew(error)
            log.debug("source.info_failed", error=str(error))
            return -1
        raise_if_cancelled()
        self.synced_offset = int(info.get("synced_offset", -1))
        return _offset_in(info)

    async def _ask_clock(self) -> int:
        before = time.time()
        try:
            seconds, microseconds = await self._client.time()
        except LOST:
            raise_if_cancelled()
            return 0
        return round(seconds * 1000 + microseconds / 1000 - (before + time.time()) * 500)

    async def _ask_repl_timeout(self) -> int:
        try:
            answer = await self._client.config_get("repl-timeout")
        except (*LOST, ValueError):
            raise_if_cancelled()
            return 0
        raise_if_cancelled()
        text = str(answer.get("repl-timeout", ""))
        return int(text) if text.isdigit() else 0


def backlog_in(info: Mapping[str, object]) -> Backlog | None:
    """Of INFO; None where it does not say. Before 4.0 a stream is named by the server's run_id."""
    replid = str(info.get("master_replid") or info.get("run_id") or "")
    if not replid or "repl_backlog_histlen" not in info:
        return None
    first = _number(info, "repl_backlog_first_byte_offset")
    is_kept = _number(info, "repl_backlog_active") == 1
    return Backlog(
        replid,
        first,
        first + _number(info, "repl_backlog_histlen") if is_kept else -1,
        earlier=str(info.get("master_replid2", "")),
        earlier_end=_number(info, "second_repl_offset"),
    )


def _offset_in(info: Mapping[str, object]) -> int:
    """master_repl_offset; -1 where INFO has none, or something else under that name."""
    return _number(info, "master_repl_offset")


def _number(info: Mapping[str, object], name: str) -> int:
    text = str(info.get(name, ""))
    return int(text) if text.isdigit() else -1
