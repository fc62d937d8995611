"""Control connections that break under redis-py's hands."""

from __future__ import annotations

import asyncio

import pytest
import redis
import uvloop

from engine.control_client import control_client
from engine.endpoint import Endpoint
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")


async def ask_over_a_closed_connection(endpoint: Endpoint) -> bool:
    client = control_client(endpoint, timeout_seconds=5)
    try:
        await client.ping()
        assert client.connection is not None
        client.connection._writer.transport.abort()  # type: ignore[union-attr]
        with pytest.raises(redis.ConnectionError, match="closed"):
            await client.ping()
        return bool(await client.ping())
    finally:
        await client.aclose()


def test_under_uvloop_a_closed_connection_is_a_lost_one_and_made_anew(
    start_server: StartServer,
) -> None:
    endpoint = start_server(SERVER_NAMES[0]).endpoint
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask_over_a_closed_connection(endpoint))
