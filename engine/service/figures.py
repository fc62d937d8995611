"""What the stats call shows of a task: progress, bytes behind, keys on both sides, pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.checkpoint.catalog import count_own_keys
from engine.cluster.discovery import primaries_of
from engine.control_client import control_client, raise_if_cancelled
from engine.endpoint import Endpoint, Role
from engine.errors import EngineError
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
    """The number of keys on one side, a cluster's summed up; asked again and again, the last answer while there is none.

    task_id: of a target, whose checkpoints do not count; lines: their names, as they get known.
    """

    def __init__(self, endpoint: Endpoint, role: Role, *, task_id: str = "") -> None:
        self._task_id = task_id
        self.lines: frozenset[str] = frozenset()
        self._endpoint = endpoint
        self._role = role
        self._clients: list[Redis] = []
        self.keys = 0

    async def ask(self) -> None:
        """Ask once."""
        try:
            if not self._clients:
                await self._find()
            infos = await asyncio.gather(*(it.info("keyspace") for it in self._clients))
            own = await asyncio.gather(*(self._own_on(it) for it in self._clients))
        except (EngineError, RedisError, OSError):
            raise_if_cancelled()
            await self.close()  # the next time a cluster may look otherwise
            return
        raise_if_cancelled()
        self.keys = max(0, sum(_keys_in(info) for info in infos) - sum(own))

    async def _own_on(self, client: Redis) -> int:
        """Keys of ours there."""
        if not self._task_id or not self.lines:
            return 0
        return await count_own_keys(client, [(self._task_id, it) for it in sorted(self.lines)])

    async def _find(self) -> None:
        servers = await primaries_of(
            self._endpoint, role=self._role, timeout_seconds=ASK_TIMEOUT_SECONDS
        )
        self._clients = [
            control_client(it, timeout_seconds=ASK_TIMEOUT_SECONDS)
            for it in servers or [self._endpoint]
        ]

    async def close(self) -> None:
        """Close the connections."""
        clients, self._clients = self._clients, []
        for client in clients:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()


def _keys_in(info: Mapping[str, Any]) -> int:
    return sum(
        int(db["keys"]) for name, db in info.items() if name.startswith("db") and name[2:].isdigit()
    )


class Gauge:
    """Makes figures of a running task's status and of both servers' sizes. source: None for a backup."""

    def __init__(self, source: Endpoint | None, target: Endpoint, *, task_id: str) -> None:
        self._source = None if source is None else Sizes(source, "source")
        self._target = Sizes(target, "target", task_id=task_id)
        self._ops = Rate()

    async def look(self, status: TaskStatus, *, is_migrating: bool) -> Figures:
        """Ask both servers and put everything together; takes at most some ASK_TIMEOUT_SECONDS."""
        self._target.lines = frozenset(it.name for it in status.lines)
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
