"""What is known of a source that does not answer, and that a cancellation always gets through."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.endpoint import Endpoint
from engine.errors import SourceUnreachable
from engine.source.facts import SourceFacts, SourceWatch


class LosesCancellations:
    """A redis-py client as on Python 3.11: a cancellation in the moment of an end is the end alone."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    async def info(self, _section: str = "") -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._fails:
                raise RedisConnectionError("the source went away") from None
        return {"master_repl_offset": 7}

    async def time(self) -> tuple[int, int]:
        await self.info()
        return 0, 0

    async def aclose(self) -> None:
        pass


ASKED: dict[str, Callable[[SourceWatch], Any]] = {
    "ask": SourceWatch.ask,
    "ask_offset": SourceWatch.ask_offset,
}


@pytest.mark.parametrize("fails", [False, True], ids=["in success", "in failure"])
@pytest.mark.parametrize("name", ["ask", "ask_offset"])
async def test_a_cancellation_in_the_moment_of_an_answer_is_not_lost(
    name: str, fails: bool
) -> None:
    watch = SourceWatch(Endpoint(), timeout_seconds=1)
    watch._client = LosesCancellations(fails)  # type: ignore[assignment]
    asking = asyncio.create_task(ASKED[name](watch))
    await asyncio.sleep(0)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_source_that_is_not_there_is_refused_first_and_unknown_later() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
        endpoint = Endpoint(port=unused.getsockname()[1])
        watch = SourceWatch(endpoint, timeout_seconds=1)
        with pytest.raises(SourceUnreachable, match=f"the source 127.0.0.1:{endpoint.port}"):
            await watch.ask_first()
        assert await watch.ask() == SourceFacts("", -1, is_cluster=False, is_silent=True)
        assert await watch.ask_offset() == -1
        await watch.close()
