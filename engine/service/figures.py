"""What the stats call shows of a task: progress, bytes behind, keys on both sides, pace."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint
from engine.stats import Rate
from engine.supervision.status import TaskStatus

ASK_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One look. offset: bytes of the source's stream that the target is behind. Sizes are keys of all databases."""

    full_migration_progress: float = 0.0
    offset: int = 0
    source_dbsize: int = 0
    target_dbsize: int = 0
    target_input_kbps: int = 0
    target_ops: int = 0
    is_migrating: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON form that the store keeps."""
        return asdict(self)


class Sizes:
    """The number of keys on one server, asked again and again; the last answer while it does not answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._client: Redis = control_client(endpoint, timeout_seconds=ASK_TIMEOUT_SECONDS)
        self.keys = 0

    async def ask(self) -> None:
        """Ask once."""
        try:
            info = await self._client.info("keyspace")
        except (RedisError, OSError):
            raise_if_cancelled()
            with contextlib.suppress(RedisError, OSError):
                await self._client.connection_pool.disconnect()
            return
        raise_if_cancelled()
        self.keys = sum(
            int(db["keys"])
            for name, db in info.items()
            if name.startswith("db") and name[2:].isdigit()
        )

    async def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()


class Gauge:
    """Makes figures of a running task's status and of both servers' sizes. source: None for a backup."""

    def __init__(self, source: Endpoint | None, target: Endpoint) -> None:
        self._source = None if source is None else Sizes(source)
        self._target = Sizes(target)
        self._ops = Rate()

    async def look(self, status: TaskStatus, *, is_migrating: bool) -> Figures:
        """Ask both servers and put everything together; takes at most some ASK_TIMEOUT_SECONDS."""
        asked = [self._target.ask()] + ([] if self._source is None else [self._source.ask()])
        await asyncio.gather(*asked)
        return self.put_together(status, is_migrating=is_migrating)

    def put_together(self, status: TaskStatus, *, is_migrating: bool) -> Figures:
        """Figures with the sizes of the last `look`."""
        self._ops.sample(status.commands_applied + status.keys_applied)
        return Figures(
            full_migration_progress=status.full_migration_progress,
            offset=status.lag_bytes,
            source_dbsize=0 if self._source is None else self._source.keys,
            target_dbsize=self._target.keys,
            target_input_kbps=round(status.bytes_per_second / 1024) if is_migrating else 0,
            target_ops=max(0, round(self._ops.per_second())) if is_migrating else 0,
            is_migrating=is_migrating,
        )

    async def close(self) -> None:
        """Close both connections."""
        await self._target.close()
        if self._source is not None:
            await self._source.close()
