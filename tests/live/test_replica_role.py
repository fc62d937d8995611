"""What the source sees of us: an online replica with an address, acknowledgements, and WAIT that is true."""

from __future__ import annotations

import asyncio

import pytest

from engine.demo.servers import RunningServer
from engine.supervision.states import TaskState
from tests.conditions import until
from tests.fix_servers import SERVER_NAMES, StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import CONFIG, offset_of, replica_of

pytestmark = pytest.mark.live

each_source = pytest.mark.parametrize("source_name", SERVER_NAMES)


def pair(start_server: StartServer, source_name: str) -> tuple[RunningServer, RunningServer]:
    newest = "valkey-9.1" if source_name.startswith("valkey") else "redis-8.2"
    return start_server(source_name, config=CONFIG), start_server(newest)


@each_source
async def test_the_source_shows_an_online_replica_with_its_address_and_a_lag_near_zero(
    source_name: str, start_server: StartServer
) -> None:
    source, target = pair(start_server, source_name)

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        with source.client() as client:
            client.set("a", "1")
        offset = offset_of(source)
        shown = await run.reaches(
            lambda: (seen := replica_of(source)).get("offset", -1) >= offset and seen,
            "the offset is acknowledged",
        )

    assert shown["state"] == "online"
    assert shown["ip"] == "127.0.0.1"
    assert shown["port"] > 0
    assert shown["lag"] in {0, 1}
    await until(lambda: replica_of(source) == {}, "the replica is gone")


@each_source
async def test_wait_returns_only_when_the_target_has_the_write(
    source_name: str, start_server: StartServer
) -> None:
    source, target = pair(start_server, source_name)

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        waited = await asyncio.to_thread(write_and_wait, source, target)

    assert waited == [(1, b"%d" % number) for number in range(20)]


def write_and_wait(source: RunningServer, target: RunningServer) -> list[tuple[int, bytes | None]]:
    found = []
    with source.client(db=4) as writer, target.client(db=4) as reader:
        for number in range(20):
            writer.set("n", number)
            found.append((writer.wait(1, 5000), reader.get("n")))
    return found


async def test_wait_does_not_count_what_a_stopped_target_has_not_applied(
    start_server: StartServer,
) -> None:
    source, target = pair(start_server, "redis-8.2")

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        with source.client() as writer, target.client() as admin:
            admin.client_pause(20_000, all=False)  # writes wait, CLIENT does not
            writer.set("a", "1")
            replicas = await asyncio.to_thread(writer.wait, 1, 300)
            admin.client_unpause()
            replicas_after = await asyncio.to_thread(writer.wait, 1, 5000)

    assert (replicas, replicas_after) == (0, 1)


async def test_the_lag_shown_counts_what_the_target_has_not_applied(
    start_server: StartServer,
) -> None:
    source, target = pair(start_server, "redis-8.2")

    async with running(make_settings(source.endpoint, target.endpoint)) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        with source.client() as writer, target.client() as admin:
            admin.client_pause(20_000, all=False)
            writer.set("a", "x" * 5000)
            behind = await run.reaches(
                # The source may say how far it is before its bytes have come.
                lambda: (
                    (status := run.task.status()).lag_bytes >= 5000
                    and status.lag_seconds > 0
                    and status
                ),
                "a lag shows",
            )
            admin.client_unpause()
        await run.reaches(lambda: run.task.status().lag_bytes == 0, "the lag goes away")
        after = run.task.status()

    assert behind.lag_seconds > 0
    assert (after.lag_seconds, after.applied_offset) == (0.0, after.read_offset)
