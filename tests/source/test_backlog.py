"""Whether a partial resync is to be had, by INFO: what the server itself answers to PSYNC."""

from __future__ import annotations

import socket

import pytest

from engine.demo.servers import RunningServer
from engine.endpoint import Endpoint
from engine.position import Position
from engine.source.facts import Backlog, SourceWatch, backlog_in
from tests.conditions import holds
from tests.fix_servers import SERVER_NAMES, StartServer

SMALL = {"repl-backlog-size": 16_384, "repl-diskless-sync-delay": 0}


def psync(server: RunningServer, replid: str, offset: int) -> bytes:
    """The first line of the answer; the connection is closed behind it."""
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(f"PSYNC {replid} {offset}\r\n".encode())
        return connection.makefile("rb").readline()


async def backlog_of(endpoint: Endpoint) -> Backlog:
    watch = SourceWatch(endpoint, timeout_seconds=5)
    try:
        found = (await watch.ask()).backlog
    finally:
        await watch.close()
    assert found is not None
    return found


@pytest.mark.live
@pytest.mark.parametrize("name", SERVER_NAMES)
async def test_told_as_the_server_answers(name: str, start_server: StartServer) -> None:
    server = start_server(name, config=SMALL)
    backlog = await backlog_of(server.endpoint)
    assert not any(backlog.reaches(Position(backlog.replid, it)) for it in (-1, 0, 1))
    assert psync(server, backlog.replid, 1).startswith(b"+FULLRESYNC")  # makes it keep one

    for filling in (0, 100, 40_000):
        with server.client() as client:
            client.set("filling", b"x" * filling)
        backlog = await backlog_of(server.endpoint)
        for offset in (backlog.first - 1, backlog.first, backlog.end - 1, backlog.end):
            answer = psync(server, backlog.replid, offset)
            is_expected = backlog.reaches(Position(backlog.replid, offset - 1))
            assert answer.startswith(b"+CONTINUE" if is_expected else b"+FULLRESYNC"), offset
        # Far enough that a PING of its own, between question and answer, does not reach it.
        assert not backlog.reaches(Position(backlog.replid, backlog.end + 9_999))
        assert psync(server, backlog.replid, backlog.end + 10_000).startswith(b"+FULLRESYNC")
        assert not backlog.reaches(Position("0" * 40, backlog.end - 1))


@pytest.mark.live
async def test_a_promoted_replica_goes_on_with_the_earlier_history(
    start_server: StartServer,
) -> None:
    primary, replica = (start_server(SERVER_NAMES[-1], config=SMALL) for _ in range(2))
    with replica.client() as client, primary.client() as first:
        client.execute_command("REPLICAOF", primary.host, primary.port)
        first.set("a", 1)
        holds(lambda: client.get("a") == b"1", "the replica has it")
        before = await backlog_of(primary.endpoint)
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.set("b", 1)
    backlog = await backlog_of(replica.endpoint)
    assert backlog.replid != before.replid == backlog.earlier
    for offset in (backlog.earlier_end, backlog.earlier_end + 1):
        is_expected = backlog.reaches(Position(before.replid, offset - 1))
        assert is_expected == (offset == backlog.earlier_end)
        answer = psync(replica, before.replid, offset)
        assert answer.startswith(b"+CONTINUE" if is_expected else b"+FULLRESYNC")


def test_an_info_that_says_nothing_of_it() -> None:
    assert backlog_in({}) is None
    assert backlog_in({"run_id": "a" * 40, "master_repl_offset": 3}) is None
