"""The servers of a target one after the other, where their keys have to be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import structlog
from redis.asyncio import Redis

from engine.cluster.slot_holders import unsettled
from engine.cluster.topology import SLOTS
from engine.codec.slots import key_slot
from engine.control_client import control_client
from engine.endpoint import Endpoint
from engine.replay.margined_keys import MarginedKeys
from engine.replay.owed import Key
from engine.replay.target_session import TargetSession
from engine.settings import TargetSettings

log = structlog.get_logger("engine.replay")


class Place(NamedTuple):
    """A server to look at. slots: those whose keys may not have been seen yet; None: all are to be seen."""

    endpoint: Endpoint
    slots: frozenset[int] | None

    def is_due(self, key: bytes) -> bool:
        """Whether the key may not have been seen yet."""
        return self.slots is None or key_slot(key) in self.slots


async def each_place(session: TargetSession) -> AsyncIterator[Place]:
    """Each server of the target.

    A slot may move from one that is still to come to one that was looked at. So holders of slots that changed hands
    meanwhile come again, until none has; two or three rounds, also while a reshard goes on and on. Raises as ClusterClaim.holders.
    """
    before = await session.holders()
    if before is None:
        yield Place(session.endpoint, None)
        return
    for endpoint in before.endpoints.values():
        yield Place(endpoint, None)
    slots, earlier = frozenset(range(SLOTS)), None
    while True:
        after = await session.holders()
        assert after is not None
        slots = unsettled(slots, before, after, earlier)
        if not slots:
            return
        log.info(
            "target.looked_at_again",
            slots=len(slots),
            why="they were moved while the keys of the target were looked at",
        )
        earlier, before = before, after
        for endpoint in before.endpoints_with(slots):
            yield Place(endpoint, slots)


async def each_server(session: TargetSession) -> AsyncIterator[tuple[Redis, Place]]:
    """As `each_place`, with a control connection to each; closed when the next one is asked for."""
    async for place in each_place(session):
        client = control_client(place.endpoint, timeout_seconds=session.reply_timeout_seconds)
        try:
            yield client, place
        finally:
            await client.aclose()


class MarginedKeysOfAll:
    """MarginedKeys of several servers. seen: keys looked at."""

    def __init__(
        self,
        session: TargetSession,
        settings: TargetSettings,
        *,
        least_ms: int,
        has_field_ttls: bool,
    ) -> None:
        self._session = session
        self._settings = settings
        self._least_ms = least_ms
        self._has_field_ttls = has_field_ttls
        self._searches: list[MarginedKeys] = []

    @property
    def seen(self) -> int:
        """Over all servers."""
        return sum(it.seen for it in self._searches)

    async def batches(self) -> AsyncIterator[tuple[list[Key], list[Key]]]:
        """As MarginedKeys.batches."""
        async for place in each_place(self._session):
            search = MarginedKeys(
                place.endpoint,
                self._settings,
                least_ms=self._least_ms,
                has_field_ttls=self._has_field_ttls,
                is_due=place.is_due,
            )
            self._searches.append(search)
            async for batch in search.batches():
                yield batch

    async def close(self) -> None:
        """Close the control connections."""
        for it in self._searches:
            await it.close()


def search_of(
    session: TargetSession, settings: TargetSettings
) -> Callable[[int, bool], MarginedKeysOfAll]:
    """Makes searches of this session's target: from an expiry on (ms since the epoch), with the hashes or without."""

    def search(least_ms: int, with_hashes: bool) -> MarginedKeysOfAll:
        return MarginedKeysOfAll(
            session,
            settings,
            least_ms=least_ms,
            has_field_ttls=with_hashes and session.capabilities.has_field_ttls,
        )

    return search
