"""The servers of a target one after the other, where their keys have to be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from redis.asyncio import Redis

from engine.control_client import control_client
from engine.endpoint import Endpoint
from engine.replay.margined_keys import MarginedKeys
from engine.replay.owed import Key
from engine.replay.target_session import TargetSession
from engine.settings import TargetSettings


async def each_server(session: TargetSession) -> AsyncIterator[Redis]:
    """A control connection to each; closed when the next one is asked for."""
    for endpoint in await session.endpoints():
        client = control_client(endpoint, timeout_seconds=session.reply_timeout_seconds)
        try:
            yield client
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
        endpoints: Sequence[Endpoint] = await self._session.endpoints()
        for endpoint in endpoints:
            search = MarginedKeys(
                endpoint,
                self._settings,
                least_ms=self._least_ms,
                has_field_ttls=self._has_field_ttls,
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
