"""Control connections that break under redis-py's hands."""

from __future__ import annotations

import asyncio

import pytest
import redis
import uvloop

from engine.codec.command_text import encode
from engine.control_client import ask_many, control_client, reply_text
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


async def ask_over_lost_connections(endpoint: Endpoint) -> list[object]:
    client = control_client(endpoint, timeout_seconds=0.5)
    try:
        await ask_many(client, encode("PING"), 1)
        assert client.connection is not None
        client.connection._writer.transport.abort()  # type: ignore[union-attr]
        with pytest.raises(redis.ConnectionError, match="closed"):
            await ask_many(client, encode("PING"), 1)
        # More than comes, then the next question: it gets its own answer, not what came too late.
        with pytest.raises(redis.TimeoutError, match="no answer within"):
            await ask_many(client, encode("ECHO", "late") + encode("BLPOP", "nothing", 1), 2)
        return await ask_many(client, encode("ECHO", "mine"), 1)
    finally:
        await client.aclose()


def test_after_a_question_that_was_not_answered_the_next_one_gets_its_own_answer(
    start_server: StartServer,
) -> None:
    endpoint = start_server(SERVER_NAMES[0]).endpoint
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask_over_lost_connections(endpoint)) == [b"mine"]


async def test_many_replies_come_in_order_with_the_errors_among_them(
    start_server: StartServer,
) -> None:
    client = control_client(start_server(SERVER_NAMES[0]).endpoint, timeout_seconds=5)
    words = [encode("SET", "a", "x" * 100_000), encode("LPUSH", "a", 1), encode("NO-SUCH")]
    try:
        found = await ask_many(client, b"".join([*words, encode("GET", "a")] * 50), 200)
    finally:
        await client.aclose()
    assert [it for it in found if not isinstance(it, Exception)] == [b"OK", b"x" * 100_000] * 50
    wrong, unknown = found[1:3]
    assert reply_text(wrong).startswith("WRONGTYPE")
    assert "unknown command" in reply_text(unknown)
